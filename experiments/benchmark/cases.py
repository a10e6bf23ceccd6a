"""The cases of a benchmark: the Cartesian product of each block of a preset, checked before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dlrt import INTEGRATORS
from experiments.config import ConfigError
from experiments.importing import did_you_mean

MODELS = ("mlp", "lenet5")
PRECISIONS = ("fp32", "tf32", "bf16")
LENET_LAYERS = 4
_AXES = ("integrator", "rank", "width", "batch", "precision")
_KEYS = ("model", *_AXES, "dense", "reference")


@dataclass(frozen=True)
class Case:
    """One step to time.

    Args:
        model: mlp (784-width-width-width-width-10, its output layer dense) or lenet5, all four layers low rank.
        rank: of every low-rank layer, at most its min(m, n); or one per layer.
        precision: of the network's products, see `contenders.precision`.
        dense: precisions of the dense nets it is compared with; the first is that of the ratio.
        reference: whether separate passes are timed too.
    """

    model: str
    width: int | None
    batch: int
    rank: int | tuple[int, ...]
    integrator: str
    precision: str = "fp32"
    dense: tuple[str, ...] = ("fp32",)
    reference: bool = False

    @property
    def net(self) -> tuple[str, int | None, int]:
        """What cases need to share to be timed against the same dense step: model, width and batch."""
        return self.model, self.width, self.batch

    @property
    def step(self) -> tuple[Any, ...]:
        """What is timed, whatever it is compared with."""
        return *self.net, self.integrator, self.rank, self.precision

    @property
    def label(self) -> str:
        """E.g. "784-5120×4-10" or "LeNet5"."""
        return "LeNet5" if self.model == "lenet5" else f"784-{self.width}×4-10"

    @property
    def ranks(self) -> str:
        """E.g. "40" or "10-25-100-10"."""
        return str(self.rank) if isinstance(self.rank, int) else "-".join(map(str, self.rank))

    def config(self) -> dict[str, Any]:
        """What the record keeps; `from_config` reads it."""
        return asdict(self)


def from_config(config: dict[str, Any]) -> Case:
    """The case that a record is of: JSON's lists are tuples again."""
    rank = config["rank"]
    return Case(**config | {"rank": tuple(rank) if isinstance(rank, list) else rank, "dense": tuple(config["dense"])})


def expand(cfg: DictConfig) -> list[Case]:
    """The cases of `cfg.blocks`, each once.

    Raises:
        ConfigError: a value out of range, an unknown key, or no block of the model asked for.
    """
    blocks: list[dict[str, Any]] = OmegaConf.to_container(cfg.blocks, resolve=True)  # type: ignore[assignment]
    values: dict[str, Any] = OmegaConf.to_container(cfg.case)  # type: ignore[assignment]
    wanted = MODELS if values["model"] is None else _listed(values["model"])
    _choice("case.model", wanted, MODELS)
    given = {axis: values[axis] for axis in _AXES if values[axis] is not None}
    chosen = [block for block in blocks if block.get("model") not in MODELS or block["model"] in wanted]
    cases = [case for block in chosen for case in _product(block, given)]
    if not cases:
        raise ConfigError(f"case.model={cfg.case.model}: no block of preset={cfg.name} has it; choose another preset")
    return _merged(cases)


def _merged(cases: Sequence[Case]) -> list[Case]:
    """Each step once, compared with all that one of its cases is compared with."""
    merged: dict[tuple[Any, ...], Case] = {}
    for case in cases:
        known = merged.get(case.step, case)
        precisions = tuple(dict.fromkeys(known.dense + case.dense))
        merged[case.step] = replace(case, dense=precisions, reference=known.reference or case.reference)
    return list(merged.values())


def groups(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases by net and batch, in their order."""
    found: dict[Any, list[Case]] = {}
    for case in cases:
        found.setdefault(case.net, []).append(case)
    return list(found.values())


def _product(block: dict[str, Any], given: dict[str, Any]) -> list[Case]:
    for key in block:
        if key not in _KEYS:
            raise ConfigError(f"unknown key {key!r} in a block: {did_you_mean(key, _KEYS)}it takes {', '.join(_KEYS)}")
    block = {"width": None, "precision": "fp32"} | block
    _choice("model", [block.get("model")], MODELS)
    block |= given if block["model"] == "mlp" else {key: x for key, x in given.items() if key != "width"}
    missing = [key for key in ("integrator", "rank", "batch") if block.get(key) is None]
    if missing or (block["model"] == "mlp") != (block["width"] is not None):
        need = missing or ["width: of an mlp, and of nothing else"]
        raise ConfigError(f"a block of {block['model']} needs {', '.join(need)}; got {block}")
    values = [_listed(block[axis]) for axis in _AXES]
    return [_case(block, dict(zip(_AXES, point, strict=True))) for point in product(*values)]


def _case(block: dict[str, Any], point: dict[str, Any]) -> Case:
    rank, dense = point["rank"], _listed(block.get("dense", ["fp32"]))
    _choice("integrator", [point["integrator"]], INTEGRATORS)
    _choice("precision", [point["precision"], *dense], PRECISIONS)
    sizes = [point["batch"], *([] if point["width"] is None else [point["width"]]), *_listed(rank)]
    if not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ConfigError(f"width, rank and batch must be positive integers, got {point}")
    if isinstance(rank, list) and (block["model"] != "lenet5" or len(rank) != LENET_LAYERS):
        raise ConfigError(f"rank {rank}: only lenet5 takes a list, of {LENET_LAYERS} ranks; write [[10,25,100,10]]")
    point["rank"] = tuple(rank) if isinstance(rank, list) else rank
    return Case(model=block["model"], dense=tuple(dense), reference=bool(block.get("reference", False)), **point)


def _choice(key: str, values: Sequence[Any], known: Any) -> None:
    for value in values:
        if value not in known:
            hint = did_you_mean(value, known)
            raise ConfigError(f"{key} is {value!r}: {hint}choose one of {', '.join(known)}")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
