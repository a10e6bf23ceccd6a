"""One case of a benchmark: a step to time, and what it shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

VITS = ("vit_tiny", "vit_small", "vit_b_16")
MODELS = ("mlp", "lenet5", *VITS)
PROBE = "probe"


@dataclass(frozen=True)
class Case:
    """One step to time.

    Args:
        model: mlp (784-width-width-width-width-10, its output layer dense), lenet5, all four layers low rank, or a
            vision transformer, which is fine-tuned.
        rank: of every low-rank layer or adapter, at most its min(m, n); or one per layer; None for probe.
        integrator: one of `dlrt.INTEGRATORS`; of a vision transformer also lora, adalora or probe.
        precision: of the network's products, see `contenders.precision`.
        dense: precisions of the dense nets it is compared with; the first is that of the ratio.
        reference: whether separate passes are timed too.
        image_size: side of a vision transformer's images, in pixels.
        inner_steps: calls of `step` in each flow; what is timed is one of them.
    """

    model: str
    width: int | None
    batch: int
    rank: int | tuple[int, ...] | None
    integrator: str
    precision: str = "fp32"
    dense: tuple[str, ...] = ("fp32",)
    reference: bool = False
    image_size: int | None = None
    inner_steps: int = 1

    @property
    def net(self) -> tuple[str, int | None, int]:
        """What cases need to share to be timed against the same dense step: model, width or image size, and batch."""
        return self.model, self.image_size if self.fine_tunes else self.width, self.batch

    @property
    def step(self) -> tuple[Any, ...]:
        """What is timed, whatever it is compared with."""
        inner = (self.inner_steps,) * (self.inner_steps > 1)  # the keys of older records have none
        return *self.net, self.integrator, self.rank, self.precision, *inner

    @property
    def fine_tunes(self) -> bool:
        """Whether what is timed is fine-tuning: adapters beside frozen weights, against training all weights."""
        return self.model in VITS

    @property
    def label(self) -> str:
        """E.g. "784-5120×4-10", "LeNet5" or "vit_small, 56 px"."""
        if self.fine_tunes:
            return f"{self.model}, {self.image_size} px"
        return "LeNet5" if self.model == "lenet5" else f"784-{self.width}×4-10"

    @property
    def ranks(self) -> str:
        """E.g. "40", "10-25-100-10" or "–"."""
        return "-".join(map(str, self.rank)) if isinstance(self.rank, tuple) else str(self.rank or "–")

    def config(self) -> dict[str, Any]:
        """What the record keeps; `from_config` reads it."""
        return asdict(self)


def from_config(config: dict[str, Any]) -> Case:
    """The case that a record is of: JSON's lists are tuples again."""
    rank = config["rank"]
    return Case(**config | {"rank": tuple(rank) if isinstance(rank, list) else rank, "dense": tuple(config["dense"])})


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases by net and batch, in their order."""
    found: dict[Any, list[Case]] = {}
    for case in cases:
        found.setdefault(case.net, []).append(case)
    return list(found.values())
