"""The table of a benchmark: a row per record, and the sentences under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.benchmark import held
from experiments.benchmark.cases import VITS
from experiments.benchmark.store import Record
from experiments.words import NONE, commits, count, listed, three_digits

_MIB = 2**20
_BUSY = 1.5  # quartiles of a quiet machine are within a few per cent of each other


def formatted(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as text; columns in which nothing stands are left out."""
    text = {
        "net": rows["net"],
        "batch": rows["batch"].map(str),
        "method": rows["method"],
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
    other = {name: frame[name].where(frame[name] != frame["× dense"], NONE) for name in ("× TF32", "× bf16")}
    empty = [name for name in frame if set(other[name] if name in other else frame[name]) <= {NONE, ""}]
    frame = frame.drop(columns=empty + ["precision"] * (set(rows["precision"]) == {"fp32"}))
    return frame.rename(columns=lambda name: name.replace("dense", "full")) if fine_tuning(rows) else frame


def _column(rows: pd.DataFrame, name: str, show: Any) -> list[str]:
    return list(rows[name].map(show)) if name in rows else [NONE] * len(rows)


def _milliseconds(middle: float, q1: float, q3: float) -> str:
    digits = three_digits(1000 * middle)
    return f"{1000 * middle:.{digits}f} ({1000 * q1:.{digits}f}–{1000 * q3:.{digits}f})"


def _ratio(value: float | None) -> str:
    return NONE if value is None or pd.isna(value) else f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _times(value: float | None) -> str:
    return NONE if value is None or pd.isna(value) else f"{value:.2f}"


def fine_tuning(rows: pd.DataFrame) -> bool:
    """Whether all rows are of vision transformers: the dense step is full fine-tuning then."""
    return set(rows["model"]) <= set(VITS)


_STEP = "ms: a step with loss and hits, gradients, flows, truncation and updates; median (quartiles), in turn with"
_TRAINING = [
    f"{_STEP} the dense step in one process. × dense: of the medians; without a name, in fp32.",
    "separate passes ×: how many times longer a K-, an L- and an S-pass with full QRs take (DLRT, 2022, "
    "Algorithm 1), the same for all integrators.",
    "floor: operations of the step over those of the dense step (docs/cost.md); distance: × dense over floor.",
    "state: weights and optimiser state; peak: the most bytes alive at once in a step, those included.",
]
_FINE_TUNING = [
    f"{_STEP} full fine-tuning in one process, all by AdamW, on random weights; with inner steps, one of them, timed "
    "over whole cycles. × full: of the medians, full fine-tuning in {precision}.",
    "Frozen layers still need x Wᵀ and δ W, two thirds of what full fine-tuning multiplies; linear probing a third.",
    "state: weights, frozen ones included, and optimiser state; peak: the most bytes alive at once in a step, those "
    "included; with inner steps, in any step of a cycle.",
]


def footer(records: Sequence[Record], rows: pd.DataFrame) -> list[str]:
    """The sentences under the table: what stands in the columns, what was met, on what it was measured."""
    known = [record["provenance"] for record in records]
    judged = rows[rows["verdict"] != ""]
    lines = [*_FINE_TUNING, *held.LINES] if fine_tuning(rows) else [*_TRAINING]
    lines[0] = lines[0].format(precision=listed({record["case"]["dense"][0] for record in records}))
    if "curve_deviation" in rows:
        lines.append("curve: largest relative difference of the losses from the plain path's.")
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
