"""Records of fine-tuning, without training: the input of the tests of the adapters' table and figures."""

from typing import Any

from fake_records import record

from experiments.records import key_of

WIDTH, BLOCKS = 768, 12
PLACES = {"self_attention.q": (1, 1), "self_attention.k": (1, 1), "self_attention.v": (1, 1),
          "self_attention.out_proj": (1, 1), "mlp.0": (4, 1), "mlp.3": (1, 4)}  # fmt: skip
SECTION = {"kind": "adapters"}
_RANKS = {"lora": 3, "adalora": 12, "dense": None, "probe": None}


def layers(blocks: int = BLOCKS, width: int = WIDTH) -> dict[str, list[int]]:
    """The shapes of the layers that ViT-B/16's adapters belong to."""
    return {
        f"encoder.layers.encoder_layer_{block}.{place}": [m * width, n * width]
        for block in range(blocks)
        for place, (m, n) in PLACES.items()
    }


def tuned(
    method: str, seed: int = 0, accuracy: float = 0.98, rank: int | None = 3, tau: float | None = None,
    budget: int | None = None, model: str = "vit_b_16", data: str = "cifar10", epochs: int = 5,
    shapes: dict[str, list[int]] | None = None, **kwargs: Any,
) -> dict[str, Any]:  # fmt: skip
    """The record of a run that ends with `rank` in every layer (None: without adapters); `kwargs` are the data's."""
    shapes = layers() if shapes is None else shapes
    probe, start = method == "probe", _RANKS.get(method, 32)
    run = record("dense" if probe else method, tau, seed, accuracy, rank=None)
    run["config"] |= {
        "integrator": {"name": "dense" if probe else method, "rank_budget": budget},
        "model": {"name": model, "kwargs": {}, "weights": "imagenet", "skip": []},
        "data": {"name": data, "kwargs": {"train_limit": None} | kwargs},
        "trainer": {"epochs": epochs, "lr": 0.001, "batch_size": 256},
        "adapters": None if method == "dense" else {"name": "probe" if probe else "vit", "targets": [], "alpha": None},
        "rank": start,
    }
    ends = {} if rank is None else dict.fromkeys(shapes, rank)
    counted = sum(r * sum(shapes[layer]) + (0 if method == "lora" else r**2) for layer, r in ends.items())
    run["final"] |= {"ranks": ends, "shapes": shapes, "trainable_params": 7690 if probe else 100_000 + counted}
    run["final"] |= {"adapter_params": counted} if ends else {}
    run["history"] = [
        {"epoch": epoch, "loss": 1 / epoch, "val_accuracy": accuracy,
         "ranks": {layer: r + (epochs - epoch) * (0 if start == r else 2) for layer, r in ends.items()}}
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    run["timing"] |= {"step_seconds": 10.0 * (1 + seed), "steps": 100, "train_seconds": 30.0}
    run["provenance"] |= {"threads": 2, "data_source": "folder cifar10 (JPEG)"}
    return run | {"key": key_of(run["config"])}
