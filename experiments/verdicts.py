"""The tables under the main one: which printed rows ours dominate, which goals they reach."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments import paper
from experiments.aggregate import DISPLAY_NAMES
from experiments.settings import flat, heading
from experiments.words import NONE, count, number, percent, points, probability, setting, spread


def printed_table(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Returns the frame of `paper.dominated` as text; `keys` are the config keys that tell our rows apart."""
    text = {"paper's table": list(rows["table"])}
    if rows["method"].nunique() > 1:
        text["method"] = [DISPLAY_NAMES[name] for name in rows["method"]]
    text |= {name: list(rows[key].map(number)) for name, key in (("τ", "tau"), ("rank", "rank")) if rows[key].any()}
    text["paper %"] = list(map(spread, rows["accuracy"], rows["std"]))
    text["compr. %"] = [_size(row) for _, row in rows.iterrows()]
    text |= _ours(rows, keys)
    text["diff."] = list(rows["difference"].map(points))
    text["p"] = list(rows["p"].map(probability))
    text["dominated"] = ["yes" if yes else "no" for yes in rows["dominated"]]
    return pd.DataFrame(text, dtype=object)


def goals_table(rows: pd.DataFrame, keys: Sequence[str], source: str) -> pd.DataFrame:
    """Returns the frame of `paper.reached` as text, counted as the paper `source` does."""
    sizes = [f"at most {count(row['params'])} parameters" if pd.notna(row["params"])
             else f"at least {row['compression']:g} % compression" for _, row in rows.iterrows()]  # fmt: skip
    text = {"goal %": [f"{goal:g}" for goal in rows["accuracy"]], "with": sizes}
    text |= _ours(rows.assign(paper=source), keys)
    text["reached"] = ["yes" if yes else "no" for yes in rows["reached"]]
    return pd.DataFrame(text, dtype=object)


def _size(row: pd.Series) -> str:
    millions = f" ({row['params'] / 1e6:.2f} M)" if row["paper"] == paper.ABC_PSI and pd.notna(row["params"]) else ""
    return percent(row["compression"]) + millions


def _ours(rows: pd.DataFrame, keys: Sequence[str]) -> dict[str, list[str]]:
    cells = pd.DataFrame([_our_row(row, keys) for _, row in rows.iterrows()])
    return {str(name): list(column) for name, column in cells.items()}


def _our_row(row: pd.Series, keys: Sequence[str]) -> dict[str, str]:
    """Returns our best row: what it is, accuracy, compression as the row's paper counts, runs."""
    if pd.isna(row["our_n"]):
        return dict.fromkeys(["ours", "ours %", "ours compr. %"], NONE) | {"n": "0", "div.": "0"}
    compression = row[f"our_{paper.compression_column(row['paper'])}"]
    return {
        "ours": _label(row, keys),
        "ours %": spread(row["our_accuracy"], row["our_accuracy_std"]),
        "ours compr. %": percent(0.0 if pd.isna(compression) else compression),
        "n": f"{row['our_n']:.0f}",
        "div.": f"{row['our_diverged']:.0f}",
    }


def _label(row: pd.Series, keys: Sequence[str]) -> str:
    words = [DISPLAY_NAMES.get(row["our_method"], row["our_method"])]
    words += [f"{sign} {row[key]:g}" for sign, key in (("τ", "our_tau"), ("r", "our_rank")) if pd.notna(row[key])]
    config = flat(row["our_config"])
    return ", ".join([*words, *(f"{heading(key)} {setting(config.get(key))}" for key in keys)])
