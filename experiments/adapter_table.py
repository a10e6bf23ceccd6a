"""The table of a preset with `table.kind: adapters`: ways to fine-tune side by side, the paper's figures beside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from experiments.adapter_claim import claim
from experiments.adapter_footer import footer, reduced
from experiments.adapter_rows import adapter_rows
from experiments.collection import KEPT, Collection, keep
from experiments.render import latex, markdown, show
from experiments.settings import columns, varying
from experiments.words import NONE, count, number, percent, spread, three_digits

# Shown in columns of their own, whether they vary or not.
_SHOWN = {"trainer.lr", "integrator.rank_budget"}


def make(collection: Collection, folder: Path) -> None:
    """Prints the table; writes table.md, table.csv (unrounded), table.tex and records.jsonl to `folder`."""
    rows = adapter_rows(collection.records, collection.missing)
    rows = rows[rows[["n", "diverged", "failed"]].sum(axis=1) > 0]  # the footer counts what is missing
    text, lines = formatted(rows, collection.preset.table.get("columns", [])), footer(collection, rows)
    sentence = " ".join(filter(None, [reduced(collection), claim(rows), f"{collection.outcome}."]))
    show(text, collection.title, lines, summary=sentence)
    (folder / "table.md").write_text(markdown(text, collection.title, lines, summary=sentence), encoding="utf-8")
    (folder / "table.tex").write_text(latex(text), encoding="utf-8")
    unrounded(rows).to_csv(folder / "table.csv", index=False)
    keep(collection, folder / KEPT)


def formatted(rows: pd.DataFrame, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the frame of `adapter_rows` as text; `keys`: config keys to show besides those that tell rows apart."""
    text: dict[str, Iterable[str]] = {"method": rows["label"]}
    text |= {name: rows[name] for name in ("model", "data")}
    text |= columns(rows, [key for key in dict.fromkeys([*keys, *varying(rows)]) if key not in _SHOWN])
    text |= {"lr": rows["lr"].map(number), "τ": rows["tau"].map(number), "start rank": rows["rank"].map(number)}
    if rows["rank_budget"].notna().any():
        text["rank budget"] = rows["rank_budget"].map(number)
    text |= {"# params": rows["mebi"].map(millions), "adapters": rows["adapter_params"].map(count)}
    text |= {"trainable": rows["trainable_params"].map(count), "total rank": rows["total_rank"].map(tenths)}
    text |= {"mean rank": rows["mean_rank"].map(tenths), "n": rows["n"].map(str), "div.": rows["diverged"].map(str)}
    text |= {"median %": rows["accuracy_median"].map(percent)}
    text |= {"mean %": map(spread, rows["accuracy"], rows["accuracy_std"])}
    if rows["printed_accuracy"].notna().any():
        text["paper's # params"] = rows["printed_mebi"].map(millions)
        text["paper %"] = rows["printed_accuracy"].map(percent)
    if rows["step_seconds"].notna().any():
        text["ms/step"] = rows["step_seconds"].map(milliseconds)
    return pd.DataFrame({name: list(cells) for name, cells in text.items()}, dtype=object)


def millions(mebi: float) -> str:
    return NONE if pd.isna(mebi) else f"{mebi:.2f} M"


def tenths(rank: float) -> str:
    return NONE if pd.isna(rank) else f"{rank:.1f}".removesuffix(".0")


def milliseconds(seconds: float) -> str:
    return NONE if pd.isna(seconds) else f"{1000 * seconds:.{three_digits(1000 * seconds)}f}"


def unrounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with what counts here, the ranks of the layers as in the papers and the config as JSON."""
    ranks = rows["ranks"].map(lambda layers: "-".join(f"{rank:g}" for rank in layers.values()))
    rows = rows.assign(ranks=ranks, config=rows["config"].map(json.dumps))
    return rows[_COLUMNS]


_COLUMNS = [
    "method", "model", "data", "lr", "tau", "rank", "rank_budget", "n", "diverged", "failed", "missing",
    "adapter_params", "mebi", "trainable_params", "total_rank", "mean_rank", "accuracy", "accuracy_std",
    "accuracy_median", "val_accuracy", "val_accuracy_std", "printed_mebi", "printed_accuracy", "step_seconds",
    "epochs", "best_epoch", "seconds", "ranks", "config",
]  # fmt: skip
