"""The printed row that stands beside a row of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.config import ConfigError
from experiments.paper.tables import COLUMNS, compression_column, select


def match(printed: pd.DataFrame, ours: pd.Series, rule: str) -> pd.Series | None:
    """Returns the printed row that stands beside the row `ours` of `experiments.aggregate`, None without one.

    Of the tables in `printed` of networks with the same output layer, dense or of low rank, counts the first that has
    our method, or that has it at our learning rate.
    "tau": its row with our τ; for a run without τ, that with our rank (if need be of another method), or if none prints
    ranks, the nearest in compression.
    "compression": its row with the highest compression not above ours (to the printed digits, the more accurate
    one of equals), the point to beat at that compression or more; where ours is below all printed ones, the
    lowest of them. Ours is counted as that paper counts.

    Raises:
        ConfigError: `rule` is neither.
    """
    if rule not in ("tau", "compression"):
        raise ConfigError(f"table.match must be tau or compression, got {rule!r}")
    rows = printed[printed["method"] == ours["method"]]
    if rule == "tau" and pd.notna(ours["rank"]) and not len(rows):
        rows = printed[printed["rank"].notna()]
    if ours["method"] != "dense":
        rows = rows[rows["output_dense"] == ours["output_dense"]]
    if (same := rows["lr"] == ours["lr"]).any():
        rows = rows[same]
    rows = rows[rows["preset"] == rows["preset"].iloc[0]] if len(rows) else rows
    if rule == "tau" and pd.notna(ours["tau"]):
        rows = rows[np.isclose(rows["tau"], ours["tau"])]
    elif rule == "tau" and rows["rank"].notna().any():
        rows = rows[rows["rank"] == ours["rank"]]
    elif len(rows) and ours["method"] != "dense":
        rows = _by_compression(rows, ours[compression_column(rows["paper"].iloc[0])], rule)
    return rows.iloc[0] if len(rows) else None


def _by_compression(rows: pd.DataFrame, ours: float, rule: str) -> pd.DataFrame:
    """Returns the rows with the one that stands beside a run of our compression first."""
    if pd.isna(ours):
        return rows.iloc[:0]
    if rule == "tau":
        return rows.iloc[(rows["compression"] - ours).abs().argsort(kind="stable")]
    rows = rows.dropna(subset=["accuracy"]).sort_values(["compression", "accuracy"], ascending=False)
    not_above = rows[rows["compression"] <= ours + rows["rounding"]]
    return not_above if len(not_above) else rows.tail(1)


def beside(ours: pd.DataFrame, table: Mapping[str, Any]) -> pd.DataFrame:
    """Returns `ours`, a frame of `experiments.aggregate`, with the printed row beside each, as columns `printed_…`.

    `table` is the preset's section: `paper`, the tables by file stem, and `match`, the rule of `match`.
    `difference` is our accuracy minus the printed one, a fraction.

    Raises:
        ConfigError: the section names no such table or rule.
    """
    printed = select(list(table.get("paper", [])))
    rows = [match(printed, row, table.get("match", "compression")) for _, row in ours.iterrows()]
    matches = pd.DataFrame([{} if row is None else dict(row) for row in rows], columns=COLUMNS, index=ours.index)
    both = pd.concat([ours, matches.add_prefix("printed_")], axis=1)
    return both.assign(difference=both["accuracy"] - both["printed_accuracy"].astype(float))
