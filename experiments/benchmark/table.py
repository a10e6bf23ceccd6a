"""The table of a benchmark: a row per record, with its targets and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.aggregate import DISPLAY_NAMES
from experiments.benchmark.cases import Case, from_config
from experiments.benchmark.store import Record
from experiments.words import NONE, commits, count, listed, three_digits

_MIB = 2**20
_MEASURED = ("median", "q1", "q3", "least", "repeats", "state_bytes", "peak_bytes")
_BUSY = 1.5  # quartiles of a quiet machine are within a few per cent of each other


def order(record: Record) -> tuple[Any, ...]:
    """Sorts records: by net and batch, integrator and rank."""
    case = from_config(record["case"])
    rank = (case.rank,) if isinstance(case.rank, int) else case.rank
    return case.model != "mlp", -(case.width or 0), case.batch, case.integrator, rank, case.precision


def row(record: Record, targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record's figures in one flat row, with `target_ratio`, `target_speedup` (None without) and `verdict`."""
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
    }


def target(case: Case, device: str, targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first target whose keys, but for `ratio` and `speedup`, are the case's; {} for other than fp32."""
    rank = list(case.rank) if isinstance(case.rank, tuple) else case.rank
    own = {"device": device, "model": case.model, "width": case.width, "batch": case.batch, "rank": rank}
    if (case.precision, case.dense[0]) != ("fp32", "fp32"):
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


def formatted(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as text; columns in which nothing stands are left out."""
    text = {
        "net": rows["net"],
        "batch": rows["batch"].map(str),
        "method": rows["integrator"].map(lambda name: DISPLAY_NAMES.get(name, name)),
        "rank": rows["rank"],
        "precision": rows["precision"],
        "ms": map(_milliseconds, rows["median"], rows["q1"], rows["q3"]),
        "dense ms": map(_milliseconds, rows["dense_median"], rows["dense_q1"], rows["dense_q3"]),
        "× dense": rows["ratio"].map(_ratio),
        "target ≤": rows["target_ratio"].map(_ratio),
        "× TF32": _column(rows, "ratio_tf32", _ratio),
        "× bf16": _column(rows, "ratio_bf16", _ratio),
        "separate passes ×": rows["speedup"].map(_times),
        "target ≥": rows["target_speedup"].map(_times),
        "verdict": rows["verdict"],
        "floor": _column(rows, "floor_ratio", _ratio),
        "distance": rows["distance"].map(_times),
        "state ×": rows["state_ratio"].map(_ratio),
        "peak MiB": rows["peak_bytes"].map(lambda x: f"{x / _MIB:.3g}" if x < 100 * _MIB else count(x / _MIB)),
        "peak ×": rows["peak_ratio"].map(_ratio),
        "curve": _column(rows, "curve_deviation", lambda x: NONE if pd.isna(x) else f"{x:.1e}"),
    }
    frame = pd.DataFrame({name: list(cells) for name, cells in text.items()}, dtype=object)
    empty = [name for name in frame if set(frame[name]) <= {NONE, ""}]
    return frame.drop(columns=empty + ["precision"] * (set(rows["precision"]) == {"fp32"}))


def _column(rows: pd.DataFrame, name: str, show: Any) -> list[str]:
    return list(rows[name].map(show)) if name in rows else [NONE] * len(rows)


def _milliseconds(middle: float, q1: float, q3: float) -> str:
    digits = three_digits(1000 * middle)
    return f"{1000 * middle:.{digits}f} ({1000 * q1:.{digits}f}–{1000 * q3:.{digits}f})"


def _ratio(value: float | None) -> str:
    return NONE if value is None or pd.isna(value) else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _times(value: float | None) -> str:
    return NONE if value is None or pd.isna(value) else f"{value:.2f}"


def footer(records: Sequence[Record], rows: pd.DataFrame) -> list[str]:
    """The sentences under the table: what stands in the columns, what was met, on what it was measured."""
    known = [record["provenance"] for record in records]
    judged = rows[rows["verdict"] != ""]
    lines = [
        "ms: a step with loss and hits, gradients, flows, truncation and updates; median (quartiles), in turn with the "
        "dense step in one process. × dense: of the medians; without a name, in fp32.",
        "separate passes ×: how many times longer a K-, an L- and an S-pass with full QRs take (DLRT, 2022, "
        "Algorithm 1), the same for all integrators.",
        "floor: operations of the step over those of the dense step (docs/cost.md); distance: × dense over floor.",
        "state: weights and optimiser state; peak: the most bytes alive at once in a step, those included.",
        "curve: largest relative difference of the losses from the plain path's.",
    ]
    if "curve_deviation" not in rows:
        lines.pop()
    busy = ((rows["q3"] > _BUSY * rows["q1"]) | (rows["dense_q3"] > _BUSY * rows["dense_q1"])).sum()
    lines += [
        f"quartiles more than {_BUSY}× apart: in {busy} of {len(rows)} rows; something else ran on the machine, and "
        "these ratios are worth little."
    ] * bool(busy)
    lines += [f"targets met: {(judged['verdict'] == 'met').sum()} of {len(judged)}."] * bool(len(judged))
    return [
        *lines,
        f"records: {len(records)}; images: {listed({p['data_source'] for p in known})}; commit: {commits(known)}; "
        f"device: {listed({p['device'] for p in known})}; threads: {listed({str(p['threads']) for p in known})}; "
        f"torch: {listed({p['versions']['torch'] for p in known})}.",
    ]
