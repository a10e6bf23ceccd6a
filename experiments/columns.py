"""The main table of a preset as text: a row per configuration of ours, the printed row beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from experiments import paper
from experiments.aggregate import DISPLAY_NAMES
from experiments.settings import columns as setting_columns
from experiments.settings import varying
from experiments.words import NONE, count, number, percent, points, ranks, spread

# Compression that ours must lack to be called larger than the printed network: more than the printed rounding.
_LARGER = 0.005


def main_table(rows: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the frame of `paper.beside` as text, percentages with two digits.

    `columns` are dotted config keys to show besides those that tell rows apart, such as "integrator.decay".
    """
    text: dict[str, Iterable[str]] = {"method": [DISPLAY_NAMES.get(name, name) for name in rows["method"]]}
    text |= {name: rows[name] for name in ("model", "data") if rows[name].nunique() > 1}
    text |= setting_columns(rows, dict.fromkeys([*columns, *varying(rows)]))
    if rows["tau"].notna().any():
        text["τ"] = rows["tau"].map(number)
    if (rows["rank"].notna() & (rows["method"] != "dense")).any():
        text["rank"] = rows["rank"].map(number)
    text |= {"ranks": rows["ranks"].map(ranks), "n": rows["n"].map(str), "div.": rows["diverged"].map(str)}
    parts = pd.DataFrame({name: list(cells) for name, cells in (text | _accuracies(rows) | _counts(rows)).items()})
    return parts.astype(object)


def _accuracies(rows: pd.DataFrame) -> dict[str, Iterable[str]]:
    text: dict[str, Iterable[str]] = {}
    if rows["start_accuracy"].notna().any():
        text["before training %"] = map(spread, rows["start_accuracy"], rows["start_accuracy_std"])
        text["paper's before %"] = rows["printed_svd_accuracy"].map(percent)
    tuning = rows["accuracy"].isna() & rows["val_accuracy"].notna()
    if tuning.any():
        text["validation %"] = map(spread, rows["val_accuracy"], rows["val_accuracy_std"])
    if not tuning.any() or rows["accuracy"].notna().any():
        text["accuracy %"] = map(spread, rows["accuracy"], rows["accuracy_std"])
    if rows["printed_paper"].notna().any() and "accuracy %" in text:
        text["paper %"] = map(spread, rows["printed_accuracy"], rows["printed_std"])
        text["diff."] = rows["difference"].map(points)
    return text


def _counts(rows: pd.DataFrame) -> dict[str, Iterable[str]]:
    text: dict[str, Iterable[str]] = {"params": rows["eval_params"].map(count)}
    text["compr. %"] = rows["compression"].map(percent)
    if (rows["printed_paper"] == paper.ABC_PSI).any():
        text["low-rank only"] = [_low_rank_only(row) for _, row in rows.iterrows()]
    if rows["printed_paper"].notna().any():
        text["paper's compr. %"] = rows["printed_compression"].map(percent)
    if rows["printed_train_compression"].notna().any():
        text["train params"] = rows["train_params"].map(count)
        text["train compr. %"] = rows["train_compression"].map(_signed)
        text["paper's train compr. %"] = rows["printed_train_compression"].map(_signed)
    if rows["printed_paper"].notna().any():
        text["paper's row"] = [_printed_row(row) for _, row in rows.iterrows()]
    return text


def _signed(fraction: float) -> str:
    return percent(fraction).replace("-", "−")


def _low_rank_only(row: pd.Series) -> str:
    if row["printed_paper"] != paper.ABC_PSI or pd.isna(row["compression_low_rank"]):
        return ""
    return f"{count(row['params_low_rank'])} ({percent(row['compression_low_rank'])} %)"


def _printed_row(row: pd.Series) -> str:
    if pd.isna(row["printed_paper"]):
        return NONE
    words = [row["printed_table"]]
    words += [
        f"{sign} {row[key]:g}" for sign, key in (("τ", "printed_tau"), ("r", "printed_rank")) if pd.notna(row[key])
    ]
    ours = row[paper.compression_column(row["printed_paper"])]
    larger = row["method"] != "dense" and row["printed_compression"] - ours > _LARGER
    return ", ".join(words) + " (ours is larger)" * larger
