"""The rows of a benchmark's table: the figures of a record, with its targets and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.aggregate import DISPLAY_NAMES
from experiments.benchmark.cases import MODELS, PROBE, Case, from_config
from experiments.benchmark.store import Record

_MEASURED = ("median", "q1", "q3", "least", "repeats", "state_bytes", "peak_bytes")
_TUNING = {"parallel_bug": "GeoLoRA (parallel BUG)", PROBE: "linear probing"}


def order(record: Record) -> tuple[Any, ...]:
    """Sorts records: by net and batch, integrator and rank."""
    case = from_config(record["case"])
    rank = case.rank if isinstance(case.rank, tuple) else (case.rank or 0,)
    net = MODELS.index(case.model), -(case.width or 0), case.image_size or 0, case.batch
    return *net, case.integrator, rank, case.precision, case.inner_steps


def method(case: Case) -> str:
    """The name of what is timed."""
    name = _TUNING.get(case.integrator) if case.fine_tunes else None
    name = name or DISPLAY_NAMES.get(case.integrator, case.integrator)
    return name if case.inner_steps == 1 else f"{name}, {case.inner_steps} inner steps"


def row(record: Record, targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record's figures in one flat row, with `target_ratio`, `target_speedup` (None without) and `verdict`, and
    `held`, the list of `held.phases`."""
    case, measured = from_config(record["case"]), record["measured"]
    own, dense, reference = measured["own"], measured["dense"][case.dense[0]], measured["reference"]
    goal = target(case, record["provenance"]["device"].partition(":")[0], targets)
    floor, curve = measured["floor"] or {}, measured.get("curve") or {}
    ratios = {f"ratio_{name}": own["median"] / x["median"] for name, x in measured["dense"].items()}
    return {
        "net": case.label,
        "model": case.model,
        "width": case.width,
        "batch": case.batch,
        "integrator": case.integrator,
        "method": method(case),
        "rank": case.ranks,
        "precision": case.precision,
        **{name: own[name] for name in (*_MEASURED, "loss")},
        **{f"dense_{name}": dense[name] for name in _MEASURED},
        **{key: measured[key] for key in ("ratio", "speedup", "state_ratio", "peak_ratio")},
        **ratios,
        "reference_median": None if reference is None else reference["median"],
        **{f"floor_{name}": x for name, x in floor.items()},
        "distance": measured["ratio"] / floor["ratio"] if floor else None,
        **{f"curve_{name}": x for name, x in curve.items()},
        "target_ratio": goal.get("ratio"),
        "target_speedup": goal.get("speedup"),
        "verdict": verdict(measured["ratio"], measured["speedup"], goal),
        "held": measured.get("held", []),
    }


def target(case: Case, device: str, targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first target whose keys, but for `ratio` and `speedup`, are the case's; {} for inner steps, or not fp32."""
    rank = list(case.rank) if isinstance(case.rank, tuple) else case.rank
    own = {"device": device, "model": case.model, "width": case.width, "batch": case.batch, "rank": rank}
    if (case.precision, case.dense[0], case.inner_steps) != ("fp32", "fp32", 1):
        return {}
    fits = (t for t in targets if all(own[key] == t[key] for key in t.keys() - {"ratio", "speedup"}))
    return next(fits, {})


def verdict(ratio: float, speedup: float | None, goal: dict[str, Any]) -> str:
    """ "met", or by how much each target is missed: "missed by 1.30×" is 1.3 times the time allowed; "" without."""
    misses = []
    if "ratio" in goal and ratio > goal["ratio"]:
        misses.append(f"missed by {ratio / goal['ratio']:.2f}×")
    if "speedup" in goal and speedup is not None and speedup < goal["speedup"]:
        misses.append(f"separate passes: missed by {goal['speedup'] / speedup:.2f}×")
    return "; ".join(misses) or ("met" if goal else "")
