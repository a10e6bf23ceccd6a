"""What was trained of an adapted model, in a file of its own: adapters, their ranks, and the trainable dense parts."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dlrt.adapters.adalora import AdaLoRALayer
from dlrt.adapters.adapted import Adapted, adapters_of
from dlrt.adapters.lora import LoRALayer
from dlrt.adapters.surgery import adapt, shapes_once_adapted

FORMAT = "dlrt-adapters-1"


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """What training may have changed of `model.state_dict()`: all but the frozen parameters that are no adapter's."""
    trained = _parts_of_adapters(model) | {id(p) for p in model.parameters() if p.requires_grad}
    frozen = {name for name, p in model.named_parameters(remove_duplicate=False) if id(p) not in trained}
    return {name: x for name, x in model.state_dict().items() if name not in frozen}


def save_adapters(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Save the adapters, the other trainable parameters and the buffers of a model as a safetensors file.

    Raises:
        ValueError: the model has no adapters.
    """
    adapters = adapters_of(model)
    if not adapters:
        raise ValueError("the model has no adapters to save: call add_adapters(model, ...) first")
    first, ranks = next(iter(adapters.values())), [len(adapter.factors.S) for adapter in adapters.values()]
    alphas = [getattr(adapter, "alpha", None) for adapter in adapters.values()]
    header = {
        "method": {LoRALayer: "lora", AdaLoRALayer: "adalora"}.get(type(first), "integrator"),
        "alpha": None if alphas == ranks else alphas[0],  # α of None is the rank of each layer
        "layers": {name: [*adapters[name].matrix_shape, r] for name, r in zip(adapters, ranks, strict=True)},
        "trainable": {name: list(p.shape) for name, p in _dense_parts(model)},
        "buffers": _buffers(model),
        "base_numbers": sum(p.numel() for p in model.parameters()) - sum(map(_numbers, adapters.values())),
    }
    tensors = {name: x.detach().contiguous().clone() for name, x in trained_state(model).items()}
    save_file(tensors, os.fspath(path), metadata={"format": FORMAT, "adapters": json.dumps(header)})


def load_adapters(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Add the adapters in a file of `save_adapters` to the plain model, in place, and return it.

    Raises:
        ValueError: the file cannot be read, holds no adapters, or those of another model. The model is as before then.
    """
    header, tensors = _read(Path(path))
    layers = {name: (m, n, r) for name, (m, n, r) in header["layers"].items()}
    shapes, parameters = shapes_once_adapted(model, layers)
    wanted = {name: (m, n) for name, (m, n, _) in layers.items()}
    buffers = {name: tuple(b.shape) for name, b in model.named_buffers()}
    kinds = (
        ("layer", wanted, shapes),
        ("parameter", header["trainable"], parameters),
        ("buffer", header["buffers"], buffers),
    )
    for kind, theirs, ours in kinds:
        for name, shape in theirs.items():
            if name not in ours or tuple(ours[name]) != tuple(shape):
                found = f"one of shape {tuple(ours[name])}" if name in ours else "none"
                raise ValueError(
                    f"{path} holds the adapters of another model: {kind} {name!r} of shape {tuple(shape)} there, "
                    f"{found} here; build the model that they were trained on"
                )
    numbers = sum(p.numel() for p in model.parameters())
    if numbers != header["base_numbers"]:  # its depth or patches, say, that no adapted layer tells of
        raise ValueError(
            f"{path} holds the adapters of another model: one of {header['base_numbers']:,} parameters, this one has "
            f"{numbers:,}; build the model that they were trained on"
        )
    ranks = {name: min(layer) for name, layer in layers.items()}  # between inner steps r may exceed m or n
    model = adapt(model, ranks, header["method"], set(header["trainable"]), header["alpha"])
    model.load_state_dict(tensors, strict=False)
    return model


def _numbers(adapter: nn.Module) -> int:
    return sum(p.numel() for p in adapter.parameters())


def _dense_parts(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The trainable parameters that are no adapter's, by the names they have without the adapters."""
    adapters = _parts_of_adapters(model)
    adapted = [name for name, m in model.named_modules() if isinstance(m, Adapted)]
    for name, p in model.named_parameters():
        if p.requires_grad and id(p) not in adapters:
            yield plain_name(name, adapted), p


def plain_name(name: str, adapted: Collection[str]) -> str:
    """A parameter's name without the `base` of the adapted layer it is in."""
    layer, base, kind = f".{name}".rpartition(".base.")
    return f"{layer}.{kind}"[1:] if base and layer[1:] in adapted else name


def _buffers(model: nn.Module) -> dict[str, list[int]]:
    """Shapes of the saved buffers that are no adapter's."""
    adapters, saved = _parts_of_adapters(model), model.state_dict()
    return {name: list(b.shape) for name, b in model.named_buffers() if name in saved and id(b) not in adapters}


def _parts_of_adapters(model: nn.Module) -> set[int]:
    """Ids of the parameters and buffers of all adapters."""
    adapters = adapters_of(model).values()
    return {id(x) for adapter in adapters for x in (*adapter.parameters(), *adapter.buffers())}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read the adapters in {path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} holds no adapters: give a file that dlrt.save_adapters wrote")
    header: dict[str, Any] = json.loads(metadata["adapters"])
    return header, tensors
