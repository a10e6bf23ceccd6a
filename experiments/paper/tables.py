"""The papers' printed accuracies as one tidy frame.

The CSV files hold the tables of "abc-PSI, 2025" and "DLRT, 2022" as printed, and one of our own: what the logs that
DLRT's authors released say about Table 7's network with a dense output layer. Read here: DLRT's Tables 5-7 and
those logs (its rank-adaptive integrator, `aug_bug`) and 8 (fixed rank, `bug`), and abc-PSI's Tables 1 and 2
(`abc_psi`, `psi`, `bc_psi`). The timing and ViT tables have other columns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.config import ConfigError

ABC_PSI, DLRT = "abc-PSI 2025", "DLRT 2022"
COLUMNS = [
    "paper", "table", "preset", "method", "tau", "rank", "lr", "output_dense", "accuracy", "std", "svd_accuracy",
    "params", "compression", "rounding", "train_params", "train_compression", "ranks",
]  # fmt: skip

_TABLES = {
    "abc_psi_table1_lr0.01": (ABC_PSI, "Table 1"),
    "abc_psi_table2_lr0.001": (ABC_PSI, "Table 2"),
    "dlrt_table5_mlp500": (DLRT, "Table 5"),
    "dlrt_table6_mlp784": (DLRT, "Table 6"),
    "dlrt_table7_lenet5": (DLRT, "Table 7"),
    "dlrt_table7_released_logs": (DLRT, "released logs"),
    "dlrt_table8_pruning": (DLRT, "Table 8"),
}
_ABC_PSI_LR = {"abc_psi_table1_lr0.01": 0.01, "abc_psi_table2_lr0.001": 0.001}
# Weights of the four low-rank layers 784-500-500-500-500: abc-PSI's count leaves out the dense output layer.
_ABC_PSI_WEIGHTS = 784 * 500 + 3 * 500 * 500
# Half a unit of the last printed digit: abc-PSI prints millions with two digits, the logs per cent with one.
_ABC_PSI_ROUNDING, _LOGS_ROUNDING, _EXACT = 0.005e6 / _ABC_PSI_WEIGHTS, 0.0005, 1e-9
# Table 7 prints no row of the full network: conv 20 x 25, conv 50 x 500, 500 x 800, 10 x 500.
_LENET5_WEIGHTS = 430_500
# §6.1 prints these in its text, for lr 1e-5.
_ABC_PSI_DENSE = {"method": "dense", "accuracy": 0.9454, "std": 0.0016, "table": "§6.1", "compression": 0.0}


def read() -> pd.DataFrame:
    """Returns every printed row, in the papers' order, with the columns `COLUMNS`.

    `preset` is the CSV file's stem, `method` the key of the integrator or baseline. `accuracy`, `std` and the
    compressions are fractions. Compressions follow from the printed parameters, as the printed percentages are
    rounded or cut in the last digit and one is misprinted (Table 6, τ = 0.09: 84.41 for 84.11); `rounding` is what
    the printed digits leave open. Training counts are those of Tables 5 and 6; Table 7 counts otherwise than our
    records. `lr`: the rate of abc-PSI's Tables 1 and 2. `output_dense`: whether the output layer is dense.
    `svd_accuracy`: Table 8's truncated networks before training. What a paper leaves blank is NaN, `ranks` None.
    """
    return select(list(_TABLES))


def select(stems: list[str]) -> pd.DataFrame:
    """Returns the printed rows of the tables named by their file stems, in the order of `stems`.

    Raises:
        ConfigError: no table has that stem.
    """
    for stem in stems:
        if stem not in _TABLES:
            raise ConfigError(f"table.paper must name tables of {', '.join(_TABLES)}, got {stem!r}")
    none = _read_table(next(iter(_TABLES))).iloc[:0]
    return pd.concat([_read_table(stem) for stem in stems] or [none], ignore_index=True)


def compression_column(paper: str) -> str:
    """Names the column of `experiments.aggregate` that counts as `paper` does."""
    return "compression_low_rank" if paper == ABC_PSI else "compression"


def _read_table(stem: str) -> pd.DataFrame:
    paper, table = _TABLES[stem]
    printed = pd.read_csv(Path(__file__).parent / f"{stem}.csv")
    rows = _abc_psi_rows(printed) if paper == ABC_PSI else _dlrt_rows(printed)
    dense_output = stem != "dlrt_table7_lenet5"
    rows = rows.reindex(columns=COLUMNS).assign(paper=paper, preset=stem, output_dense=dense_output)
    rate = np.where(rows["method"] == "dense", np.nan, _ABC_PSI_LR.get(stem, np.nan))
    return rows.assign(table=rows["table"].fillna(table), lr=rate)


def _abc_psi_rows(printed: pd.DataFrame) -> pd.DataFrame:
    methods = []
    for method in ("psi", "bc_psi", "abc_psi"):
        rows = pd.DataFrame({"tau": printed["tau"], "params": printed[f"{method}_params_M"] * 1e6})
        rows["compression"] = 1 - rows["params"] / _ABC_PSI_WEIGHTS
        rows["accuracy"], rows["std"] = printed[f"{method}_acc"] / 100, printed[f"{method}_std"] / 100
        methods.append(rows.assign(method=method, table=None, ranks=None, rounding=_ABC_PSI_ROUNDING))
    return pd.concat([pd.DataFrame([_ABC_PSI_DENSE | {"ranks": None, "rounding": _EXACT}]), *methods])


def _dlrt_rows(printed: pd.DataFrame) -> pd.DataFrame:
    label = printed.columns[0]  # τ in the rank-adaptive tables, the rank in Table 8, "full" for the dense network
    fixed, full = label == "rank", printed[label].astype(str) == "full"
    value = pd.to_numeric(printed[label], errors="coerce")
    rows = pd.DataFrame({label: value, "method": np.where(full, "dense", "bug" if fixed else "aug_bug")})
    rows["accuracy"] = printed["low_rank_training_acc" if fixed else "test_acc"] / 100
    if "eval_params" not in printed:  # the released logs
        return rows.assign(compression=printed["eval_cr"] / 100, rounding=_LOGS_ROUNDING, table=None, ranks=None)
    weights = printed.loc[full, "eval_params"].iloc[0] if full.any() else _LENET5_WEIGHTS
    rows["params"] = printed["eval_params"]
    rows["train_params"] = printed["train_params"] if full.any() and not fixed else np.nan  # Table 7 counts otherwise
    for kind in ("", "train_"):
        rows[f"{kind}compression"] = 1 - rows[f"{kind}params"] / weights
    rows["std"] = printed.get("test_acc_std", np.nan) / 100
    rows["svd_accuracy"] = printed.get("svd_acc", np.nan) / 100
    rows["ranks"] = [tuple(map(int, ranks.split("-"))) for ranks in printed["ranks"]]
    return rows.assign(table=None, rounding=_EXACT)
