"""Which printed rows, and which goals, a row of ours beats at their compression or more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from experiments.paper.tables import ABC_PSI, compression_column

PRINTED_RUNS = 5
_SAME = ["table", "method", "tau", "rank", "accuracy"]  # §6.1's dense network belongs to two tables


def dominated(printed: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of `printed` that have an accuracy, each with the best row of `ours` at its compression or more.

    That row's columns are prefixed `our_`. `dominated`: whether its mean accuracy is strictly higher; `difference`:
    by how much; `p`: of the one-sided test (see `p_value`). Its candidates are our rank-adaptive rows (in a preset
    without any, all low-rank rows) with the same output layer, for a dense network also our dense row; compressions
    are those the paper counts, to its printed digits.
    """
    rows = []
    for _, row in printed.dropna(subset=["accuracy"]).drop_duplicates(_SAME).iterrows():
        candidates = _candidates(ours, dense=row["method"] == "dense")
        if row["method"] != "dense":
            candidates = candidates[candidates["output_dense"] == row["output_dense"]]
        counted = candidates[compression_column(row["paper"])].fillna(0.0)
        best = best_of(candidates[counted >= row["compression"] - row["rounding"]])
        rows.append(dict(row) | _comparison(row, best) | dict(best.add_prefix("our_")))
    return pd.DataFrame(rows)


def reached(goals: Sequence[Mapping[str, float]], ours: pd.DataFrame, paper: str) -> pd.DataFrame:
    """Returns the goals, each with the best low-rank row of `ours` (prefixed `our_`) at its size, and `reached`.

    A goal is {accuracy: 98.5, compression: 90}, both in per cent, or {accuracy: 97.5, params: 43000}, counted as
    `paper` does.
    """
    candidates, rows = _candidates(ours, dense=False), []
    for goal in goals:
        if "params" in goal:
            fitting = candidates[candidates["params_low_rank" if paper == ABC_PSI else "eval_params"] <= goal["params"]]
        else:
            fitting = candidates[candidates[compression_column(paper)] >= goal["compression"] / 100]
        best = best_of(fitting)
        is_reached = bool(best["accuracy"] >= goal["accuracy"] / 100 - 1e-12)
        rows.append({"accuracy": math.nan, "compression": math.nan, "params": math.nan} | dict(goal)
                    | {"reached": is_reached} | dict(best.add_prefix("our_")))  # fmt: skip
    return pd.DataFrame(rows)


def best_of(rows: pd.DataFrame) -> pd.Series:
    """Returns the row with the highest mean accuracy; one of nothing but NaN if there is none."""
    found = rows.dropna(subset=["accuracy"]).sort_values("accuracy", ascending=False, kind="stable")
    return found.iloc[0] if len(found) else pd.Series(math.nan, index=rows.columns, dtype=object)


def p_value(mean: float, std: float, n: int, printed: float, printed_std: float) -> float:
    """The one-sided p of "our mean is higher": Welch's t-test against five printed runs, NaN for n < 2.

    A printed accuracy without a deviation (`printed_std` NaN) is taken as a constant: the one-sample t-test.
    """
    ours, theirs = std**2 / n if n else math.nan, 0.0 if pd.isna(printed_std) else printed_std**2 / PRINTED_RUNS
    if n < 2 or ours + theirs == 0:
        return math.nan
    freedom = (ours + theirs) ** 2 / (ours**2 / (n - 1) + theirs**2 / (PRINTED_RUNS - 1))
    return student_tail((mean - printed) / math.sqrt(ours + theirs), freedom)


def student_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's distribution with at least one degree of freedom: with T = √ν tan θ, ∫ cos^{ν−1} θ dθ."""
    whole = np.linspace(-math.pi / 2, math.pi / 2, 20_001)
    tail = np.linspace(math.atan2(t, math.sqrt(freedom)), math.pi / 2, 20_001)
    areas = (np.trapezoid(np.maximum(np.cos(theta), 0) ** (freedom - 1), theta) for theta in (tail, whole))
    return float(next(areas) / next(areas))


def _candidates(ours: pd.DataFrame, dense: bool) -> pd.DataFrame:
    low_rank = ours[ours["method"] != "dense"]
    adaptive = low_rank[low_rank["tau"].notna()]
    chosen = adaptive if len(adaptive) else low_rank
    return pd.concat([chosen, ours[ours["method"] == "dense"]]) if dense else chosen


def _comparison(row: pd.Series, best: pd.Series) -> dict[str, object]:
    if pd.isna(best["accuracy"]):
        return {"difference": math.nan, "p": math.nan, "dominated": False}
    p = p_value(best["accuracy"], best["accuracy_std"], best["n"], row["accuracy"], row["std"])
    difference = best["accuracy"] - row["accuracy"]
    return {"difference": difference, "p": p, "dominated": bool(difference > 0)}
