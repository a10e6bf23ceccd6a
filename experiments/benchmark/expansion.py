"""The cases of a preset: the Cartesian product of each of its blocks, checked before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dlrt import INTEGRATORS
from experiments import build
from experiments.benchmark import nets
from experiments.benchmark.cases import MODELS, PROBE, VITS, Case
from experiments.config import ConfigError
from experiments.importing import did_you_mean

PRECISIONS = ("fp32", "tf32", "bf16")
FINE_TUNING = (*build.ADAPTERS_ONLY, PROBE)
LENET_LAYERS = 4
_AXES = ("integrator", "rank", "width", "image_size", "batch", "precision", "inner_steps")
_KEYS = ("model", *_AXES, "dense", "reference")
_OWN = {"width": ("mlp",), "image_size": VITS}  # axes of some models only


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
    cases = _merged([case for block in chosen for case in _product(block, given)])
    if not cases:
        raise ConfigError(f"case.model={cfg.case.model}: no block of preset={cfg.name} has it; choose another preset")
    for case in {(case.model, case.image_size, case.rank): case for case in cases if case.fine_tunes}.values():
        nets.check(case)
    return cases


def _merged(cases: Sequence[Case]) -> list[Case]:
    """Each step once, compared with all that one of its cases is compared with."""
    merged: dict[tuple[Any, ...], Case] = {}
    for case in cases:
        known = merged.get(case.step, case)
        precisions = tuple(dict.fromkeys(known.dense + case.dense))
        merged[case.step] = replace(case, dense=precisions, reference=known.reference or case.reference)
    return list(merged.values())


def _product(block: dict[str, Any], given: dict[str, Any]) -> list[Case]:
    for key in block:
        if key not in _KEYS:
            raise ConfigError(f"unknown key {key!r} in a block: {did_you_mean(key, _KEYS)}it takes {', '.join(_KEYS)}")
    model = block.get("model")
    _choice("model", [model], MODELS)
    block = {"width": None, "image_size": None, "precision": "fp32", "inner_steps": 1} | block
    block |= {axis: value for axis, value in given.items() if model in _OWN.get(axis, MODELS)}
    need = [key for key in ("integrator", "rank", "batch") if block.get(key) is None]
    need += [f"{axis}: of {', '.join(models)}, and of nothing else" for axis, models in _OWN.items()
             if (model in models) != (block[axis] is not None)]  # fmt: skip
    if need:
        raise ConfigError(f"a block of {model} needs {', '.join(need)}; got {block}")
    values = [_listed(block[axis]) for axis in _AXES]
    return [_case(block, dict(zip(_AXES, point, strict=True))) for point in product(*values)]


def _case(block: dict[str, Any], point: dict[str, Any]) -> Case:
    rank, dense = point["rank"], _listed(block.get("dense", ["fp32"]))
    _choice("integrator", [point["integrator"]], [*INTEGRATORS, *FINE_TUNING])
    _choice("precision", [point["precision"], *dense], PRECISIONS)
    sizes = [point[axis] for axis in ("width", "image_size", "batch", "inner_steps") if point[axis] is not None]
    if not all(isinstance(size, int) and size >= 1 for size in [*sizes, *_listed(rank)]):
        raise ConfigError(f"width, image_size, rank, batch and inner_steps must be positive integers, got {point}")
    if isinstance(rank, list) and (block["model"] != "lenet5" or len(rank) != LENET_LAYERS):
        raise ConfigError(f"rank {rank}: only lenet5 takes a list, of {LENET_LAYERS} ranks; write [[10,25,100,10]]")
    point["rank"] = tuple(rank) if isinstance(rank, list) else rank
    case = Case(model=block["model"], dense=tuple(dense), reference=bool(block.get("reference", False)), **point)
    return _sensible(case)


def _sensible(case: Case) -> Case:
    """The case without the rank or inner_steps that its method does not have."""
    if case.integrator in FINE_TUNING and not case.fine_tunes:
        raise ConfigError(f"integrator is {case.integrator!r} of {case.model}: only {', '.join(VITS)} are fine-tuned")
    if case.reference and case.fine_tunes:
        raise ConfigError(
            f"reference is true of {case.model}: separate passes are timed of mlp and lenet5, leave it out"
        )
    return replace(
        case,
        rank=None if case.integrator == PROBE else case.rank,
        inner_steps=case.inner_steps if case.integrator in INTEGRATORS else 1,
    )


def _choice(key: str, values: Sequence[Any], known: Any) -> None:
    for value in values:
        if value not in known:
            hint = did_you_mean(value, known)
            raise ConfigError(f"{key} is {value!r}: {hint}choose one of {', '.join(known)}")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
