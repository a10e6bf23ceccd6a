"""What abc-PSI, 2025, claims by its Table 3: LoRA's accuracy at least, with 0.34/0.47 of its parameters at most."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from experiments.words import percent, points, spread

_SHARE = 0.34 / 0.47
_FEW = 3  # runs, below which no mean is worth comparing


def claim(rows: pd.DataFrame) -> str:
    """Returns the sentence that confirms or refutes it for each model and data set of `adapter_rows`; "" without any.

    By the mean test accuracies. Of several rows of a method, validation data choose: LoRA's best, and abc-PSI's best
    with few enough parameters, or if none has, the one with the fewest.
    """
    verdicts = list(_verdicts(rows))
    start = f"abc-PSI has at least LoRA's accuracy with at most {_SHARE:.2f} × its parameters"
    return f"{start}: {'; '.join(verdicts)}." if verdicts else ""


def _verdicts(rows: pd.DataFrame) -> Iterator[str]:
    named = ["model", "data"] if rows["model"].nunique() > 1 else ["data"]
    for _, part in rows.groupby(["model", "data"], sort=False):
        lora, psi = _lora(part), _contender(part)
        if lora is not None and psi is not None:
            yield f"{_verdict(psi, lora)} on {', '.join(part.iloc[0][named])} ({_numbers(psi, lora)})"


def _contender(part: pd.DataFrame) -> pd.Series | None:
    lora = _lora(part)
    rows = part[(part["method"] == "abc_psi") & part["accuracy"].notna()]
    small = rows[rows["adapter_params"] <= _SHARE * lora["adapter_params"]] if lora is not None else rows
    return _chosen(small if len(small) else rows.sort_values("adapter_params").head(1))


def _lora(part: pd.DataFrame) -> pd.Series | None:
    return _chosen(part[(part["method"] == "lora") & part["accuracy"].notna()])


def _chosen(rows: pd.DataFrame) -> pd.Series | None:
    return rows.sort_values("val_accuracy", ascending=False, kind="stable").iloc[0] if len(rows) else None


def _verdict(psi: pd.Series, lora: pd.Series) -> str:
    faults = ["accuracy"] * bool(psi["accuracy"] < lora["accuracy"])
    faults += ["parameters"] * bool(psi["adapter_params"] > _SHARE * lora["adapter_params"])
    verdict = f"refuted by its {' and '.join(faults)}" if faults else "confirmed"
    return verdict + ", with too few runs to tell," * bool(min(psi["n"], lora["n"]) < _FEW)


def _numbers(psi: pd.Series, lora: pd.Series) -> str:
    difference = psi["accuracy"] - lora["accuracy"]
    error = math.sqrt(psi["accuracy_std"] ** 2 / psi["n"] + lora["accuracy_std"] ** 2 / lora["n"])
    by = points(difference) + ("" if math.isnan(error) else f" ± {percent(error)}")
    share = psi["adapter_params"] / lora["adapter_params"]
    return f"{_of(psi)} against {_of(lora)}: {by} points, {share:.3f} × the parameters"


def _of(row: pd.Series) -> str:
    return (
        f"{row['label']} {spread(row['accuracy'], row['accuracy_std'])} %, median {percent(row['accuracy_median'])}, "
        f"n = {row['n']}, {row['mebi']:.2f} M"
    )
