"""The papers' printed accuracies as one tidy frame, and the printed row that stands beside a result of ours.

The CSV files hold the tables of "abc-PSI, 2025" and "DLRT, 2022" as printed. Read here: DLRT's Tables 5-7 (its
rank-adaptive integrator, `aug_bug`) and 8 (fixed rank, `bug`; the column of truncated networks is left out), and
abc-PSI's Tables 1 and 2 (`abc_psi`, `psi`, `bc_psi`). The timing and ViT tables have other columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.config import ConfigError

ABC_PSI, DLRT = "abc-PSI 2025", "DLRT 2022"
COLUMNS = ["paper", "table", "preset", "method", "tau", "accuracy", "std", "params", "compression", "ranks"]

_TABLES = {
    "abc_psi_table1_lr0.01": (ABC_PSI, "Table 1"),
    "abc_psi_table2_lr0.001": (ABC_PSI, "Table 2"),
    "dlrt_table5_mlp500": (DLRT, "Table 5"),
    "dlrt_table6_mlp784": (DLRT, "Table 6"),
    "dlrt_table7_lenet5": (DLRT, "Table 7"),
    "dlrt_table8_pruning": (DLRT, "Table 8"),
}
# Weights of the four low-rank layers 784-500-500-500-500: abc-PSI's count leaves out the dense output layer.
_ABC_PSI_WEIGHTS = 784 * 500 + 3 * 500 * 500
# How far a compression is from what was printed: abc-PSI prints its counts in millions with two digits.
_ROUNDING = {ABC_PSI: 0.005e6 / _ABC_PSI_WEIGHTS, DLRT: 1e-9}
# Table 7 prints no row of the full network: conv 20 x 25, conv 50 x 500, 500 x 800, 10 x 500.
_LENET5_WEIGHTS = 430_500
# §6.1 prints these in its text, for lr 1e-5.
_ABC_PSI_DENSE = {"method": "dense", "accuracy": 0.9454, "std": 0.0016, "table": "§6.1", "ranks": None}


def read() -> pd.DataFrame:
    """Returns every printed row, in the papers' order, with the columns `COLUMNS`.

    `preset` is the CSV file's stem, `method` the key of the integrator or baseline. `accuracy`, `std` and
    `compression` are fractions. `compression` follows from the printed parameters, as the printed percentages are
    rounded or cut in the last digit and one is misprinted (Table 6, τ = 0.09: 84.41 for 84.11); abc-PSI prints none.
    What a paper leaves blank is NaN, `ranks` None.
    """
    return pd.concat([_read_table(stem) for stem in _TABLES], ignore_index=True)


def select(stems: list[str]) -> pd.DataFrame:
    """Returns the printed rows of the tables named by their file stems, in the order of `stems`.

    Raises:
        ConfigError: no table has that stem.
    """
    for stem in stems:
        if stem not in _TABLES:
            raise ConfigError(f"table.paper must name tables of {', '.join(_TABLES)}, got {stem!r}")
    return pd.concat([_read_table(stem) for stem in stems] or [pd.DataFrame(columns=COLUMNS)], ignore_index=True)


def match(printed: pd.DataFrame, ours: pd.Series, rule: str) -> pd.Series | None:
    """Returns the printed row that stands beside the row `ours` of `experiments.aggregate`, None without one.

    Of the tables in `printed`, the first that has our method counts.
    "tau": its row with our τ; for a run without τ (a fixed rank) the one nearest in compression.
    "compression": its row with the highest compression not above ours (to the printed digits, the more accurate
    one of equals), the point to beat at that compression or more; where ours is below all printed ones, the
    lowest of them. Ours is counted as that paper counts.

    Raises:
        ConfigError: `rule` is neither.
    """
    if rule not in ("tau", "compression"):
        raise ConfigError(f"table.match must be tau or compression, got {rule!r}")
    rows = printed[printed["method"] == ours["method"]]
    rows = rows[rows["preset"] == rows["preset"].iloc[0]] if len(rows) else rows
    if rule == "tau" and pd.notna(ours["tau"]):
        rows = rows[np.isclose(rows["tau"], ours["tau"])]
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
    not_above = rows[rows["compression"] <= ours + rows["paper"].map(_ROUNDING)]
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


def compression_column(paper: str) -> str:
    """Names the column of `experiments.aggregate` that counts as `paper` does."""
    return "compression_low_rank" if paper == ABC_PSI else "compression"


def _read_table(stem: str) -> pd.DataFrame:
    paper, table = _TABLES[stem]
    printed = pd.read_csv(Path(__file__).parent / f"{stem}.csv")
    rows = _abc_psi_rows(printed) if paper == ABC_PSI else _dlrt_rows(printed)
    rows = rows.reindex(columns=COLUMNS).assign(paper=paper, preset=stem)
    return rows.assign(table=rows["table"].fillna(table))


def _abc_psi_rows(printed: pd.DataFrame) -> pd.DataFrame:
    methods = []
    for method in ("psi", "bc_psi", "abc_psi"):
        rows = pd.DataFrame({"tau": printed["tau"], "params": printed[f"{method}_params_M"] * 1e6})
        rows["compression"] = 1 - rows["params"] / _ABC_PSI_WEIGHTS
        rows["accuracy"], rows["std"] = printed[f"{method}_acc"] / 100, printed[f"{method}_std"] / 100
        methods.append(rows.assign(method=method, table=None, ranks=None))
    return pd.concat([pd.DataFrame([_ABC_PSI_DENSE]), *methods], ignore_index=True)


def _dlrt_rows(printed: pd.DataFrame) -> pd.DataFrame:
    label = printed.columns[0]  # τ in the rank-adaptive tables, the rank in Table 8, "full" for the dense network
    fixed, full = label == "rank", printed[label].astype(str) == "full"
    weights = printed.loc[full, "eval_params"].iloc[0] if full.any() else _LENET5_WEIGHTS
    rows = pd.DataFrame({"params": printed["eval_params"], "compression": 1 - printed["eval_params"] / weights})
    rows["method"] = np.where(full, "dense", "bug" if fixed else "aug_bug")
    rows["tau"] = np.nan if fixed else pd.to_numeric(printed[label], errors="coerce")
    rows["accuracy"] = printed["low_rank_training_acc" if fixed else "test_acc"] / 100
    rows["std"] = np.nan if fixed else printed["test_acc_std"] / 100
    rows["ranks"] = [tuple(map(int, ranks.split("-"))) for ranks in printed["ranks"]]
    return rows.assign(table=None)
