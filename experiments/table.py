"""The table of a preset, the paper's figures beside ours: python -m experiments.table NAME [results_dir=runs].

Prints the table and writes results/NAME/table.md, .csv, .tex and the records behind it, records.jsonl, from which
a clean clone makes the same table again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from experiments import paper
from experiments.aggregate import DISPLAY_NAMES, aggregate
from experiments.collection import KEPT, Collection, command, keep
from experiments.render import latex, markdown, show

_PROTOCOLS = {
    "val_accuracy": "the epoch that is best on validation data",
    "test_accuracy_paper_protocol": "the best test epoch, the papers' protocol",
}
_RULES = {
    "tau": "the row of the same method and τ (fixed rank: nearest in compression)",
    "compression": "the row of the same method with the highest compression not above ours, else the lowest",
}
# Compression that ours must lack to be called larger than the printed network: more than the printed rounding.
_LARGER = 0.005


def formatted(rows: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Returns the frame of `paper.beside` as text, percentages with two digits.

    `columns` are dotted config keys to show too, such as "integrator.decay".
    """
    text: dict[str, Iterable[str]] = {"method": [DISPLAY_NAMES.get(name, name) for name in rows["method"]]}
    text |= {name: rows[name] for name in ("model", "data") if rows[name].nunique() > 1}
    configs = [OmegaConf.create(config) for config in rows["config"]]
    text |= {key: [str(OmegaConf.select(config, key)) for config in configs] for key in columns}
    text |= {
        "τ": rows["tau"].map(_number),
        "ranks": rows["ranks"].map(_ranks),
        "n": rows["n"].map(str),
        "div.": rows["diverged"].map(str),
        "accuracy %": map(_spread, rows["accuracy"], rows["accuracy_std"]),
    }
    if rows["printed_paper"].notna().any():
        text["paper %"] = map(_spread, rows["printed_accuracy"], rows["printed_std"])
        text["diff."] = rows["difference"].map(lambda points: _percent(points, "+.2f").replace("-", "−"))
    text |= {"params": rows["eval_params"].map(_count), "compr. %": rows["compression"].map(_percent)}
    if (rows["printed_paper"] == paper.ABC_PSI).any():
        text["low-rank only"] = [_low_rank_only(row) for _, row in rows.iterrows()]
    if rows["printed_paper"].notna().any():
        text["paper's row"] = [_printed_row(row) for _, row in rows.iterrows()]
    return pd.DataFrame({name: list(cells) for name, cells in text.items()})


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:g}"


def _count(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:,.0f}"


def _percent(fraction: float, digits: str = ".2f") -> str:
    return "–" if pd.isna(fraction) else f"{100 * fraction:{digits}}"


def _spread(mean: float, std: float) -> str:
    return _percent(mean) if pd.isna(std) else f"{_percent(mean)} ± {_percent(std)}"


def _ranks(ranks: Mapping[str, float]) -> str:
    values = list(ranks.values())
    if len(values) > 6:
        return f"{min(values):.0f} to {max(values):.0f}"
    return "-".join(f"{value:.0f}" for value in values)


def _low_rank_only(row: pd.Series) -> str:
    if row["printed_paper"] != paper.ABC_PSI or pd.isna(row["compression_low_rank"]):
        return ""
    return f"{_count(row['params_low_rank'])} ({_percent(row['compression_low_rank'])} %)"


def _printed_row(row: pd.Series) -> str:
    if pd.isna(row["printed_paper"]):
        return "–"
    words = [row["printed_table"]]
    if pd.notna(row["printed_tau"]):
        words.append(f"τ {row['printed_tau']:g}")
    if row["method"] != "dense":
        larger = row["printed_compression"] - row[paper.compression_column(row["printed_paper"])] > _LARGER
        words.append(f"{_percent(row['printed_compression'])} %{' (ours is larger)' if larger else ''}")
    return ", ".join(words)


def footer(collection: Collection, rows: pd.DataFrame) -> list[str]:
    """Returns the sentences under the table: what is counted how, where it comes from, and what is missing."""
    done = [record for record in collection.records if record["status"] == "done"]
    protocols = {_PROTOCOLS[record["final"]["selected_by"]] for record in done}
    lines = []
    if protocols:
        lines.append(
            f"accuracy: mean ± sample standard deviation over n seeds of the test accuracy at {_list(protocols)}; "
            "diverged runs are counted, not averaged."
        )
    papers = rows[["printed_table", "printed_paper"]].dropna().drop_duplicates()
    if len(papers):
        names = _list(f"{table}: {name}" for table, name in papers.itertuples(index=False))
        rule = _RULES[collection.preset.table.get("match", "compression")]
        lines.append(f"paper: {names}; beside ours stands {rule}.")
    if (rows["printed_paper"] == paper.ABC_PSI).any():
        lines.append("low-rank only: abc-PSI counts no layer that stays dense; params: all weight matrices.")
    return lines + _provenance(collection) + _missing(collection)


def _provenance(collection: Collection) -> list[str]:
    known = [record["provenance"] for record in collection.records if record["provenance"]]
    commits = {f"{(p['commit'] or 'unknown')[:9]}{' (dirty)' if p['dirty'] else ''}" for p in known}
    epochs = {str(record["config"]["trainer"]["epochs"]) for record in collection.records}
    return [
        f"runs: {len(collection.records)}, in {collection.source.as_posix()}; epochs: {_list(epochs)}; "
        f"commit: {_list(commits)}; device: {_list({p['device'] for p in known})}."
    ]


def _missing(collection: Collection) -> list[str]:
    unfinished = sum(record["status"] in ("failed", "preempted") for record in collection.records)
    missing = len(collection.missing) + collection.preset.unresolved
    if not missing + unfinished:
        return []
    return [f"missing runs: {missing}, failed or cut short: {unfinished}; make them with `{collection.command}`."]


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def unrounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame of `paper.beside` with ranks written as in the papers and the config as JSON."""
    printed = rows["printed_ranks"].map(lambda ranks: "-".join(map(str, ranks)), na_action="ignore")
    ranks = rows["ranks"].map(lambda layers: "-".join(f"{rank:g}" for rank in layers.values()))
    return rows.assign(ranks=ranks, printed_ranks=printed, config=rows["config"].map(json.dumps))


def make(collection: Collection, folder: Path) -> None:
    """Prints the table; writes table.md, table.csv (unrounded), table.tex and records.jsonl to `folder`."""
    rows = paper.beside(aggregate(collection.records, collection.missing), collection.preset.table)
    text = formatted(rows, collection.preset.table.get("columns", []))
    lines = footer(collection, rows)
    show(text, collection.preset.title, lines)
    page = markdown(text, collection.preset.title, lines)
    (folder / "table.md").write_text(page, encoding="utf-8")
    (folder / "table.tex").write_text(latex(text), encoding="utf-8")
    unrounded(rows).to_csv(folder / "table.csv", index=False)
    keep(collection, folder / KEPT)


if __name__ == "__main__":
    command(sys.argv[1:], "experiments.table", make)
