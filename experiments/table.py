"""The table of a preset, the paper's figures beside ours: python -m experiments.table NAME [results_dir=runs].

Prints the table and writes results/NAME[/PROTOCOL[-BUDGET]]/table.md, .csv, .tex, dominated.csv and the records behind
it, records.jsonl, from which a clean clone makes the same table again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from experiments import adapter_table, paper, timing_table
from experiments.aggregate import aggregate
from experiments.collection import KEPT, Collection, command, keep
from experiments.columns import main_table
from experiments.config import ConfigError
from experiments.footer import footer
from experiments.importing import did_you_mean
from experiments.render import Table, latex, markdown, show
from experiments.settings import varying
from experiments.verdicts import goals_table, printed_table


def make(collection: Collection, folder: Path) -> None:
    """Prints the table; writes table.md, table.csv (unrounded), table.tex and records.jsonl to `folder`.

    Raises:
        ConfigError: the preset's `table.kind` is unknown.
    """
    kinds = {"accuracy": _accuracy, "adapters": adapter_table.make, "timing": timing_table.make}
    kind = collection.preset.table.get("kind", "accuracy")
    if kind not in kinds:
        raise ConfigError(f"table.kind: {did_you_mean(kind, kinds)}there is no {kind!r}: write {', '.join(kinds)}")
    kinds[kind](collection, folder)


def _accuracy(collection: Collection, folder: Path) -> None:
    section = collection.preset.table
    ours = aggregate(collection.records, collection.missing)
    rows, dominated = paper.beside(ours, section), paper.dominated(paper.select(section.get("paper", [])), ours)
    goals = paper.reached(section.get("goals", []), ours, _counting(section))
    rows = rows[rows[["n", "diverged", "failed"]].sum(axis=1) > 0]  # the footer counts what is missing
    text, lines, title = main_table(rows, section.get("columns", [])), footer(collection, rows), collection.title
    tables = [*_printed(dominated, ours), *_goals(goals, ours, _counting(section))]
    sentence = summary(collection, dominated, goals)
    show(text, title, lines, tables, sentence)
    (folder / "table.md").write_text(markdown(text, title, lines, tables, sentence), encoding="utf-8")
    (folder / "table.tex").write_text(latex(text, tables), encoding="utf-8")
    unrounded(rows).to_csv(folder / "table.csv", index=False)
    if len(dominated):
        dominated.drop(columns=["our_config", "our_ranks"], errors="ignore").to_csv(
            folder / "dominated.csv", index=False
        )
    keep(collection, folder / KEPT)


def summary(collection: Collection, dominated: pd.DataFrame, goals: pd.DataFrame) -> str:
    """Returns the table in one sentence."""
    words = []
    if len(dominated):
        words.append(f"{dominated['dominated'].sum()} of {len(dominated)} printed rows dominated")
    if len(goals):
        words.append(f"{goals['reached'].sum()} of {len(goals)} goals reached")
    return "; ".join([*words, collection.outcome]) + "."


def _counting(section: dict[str, list[str]]) -> str:
    printed = paper.select(section.get("paper", []))
    return paper.DLRT if printed.empty else str(printed["paper"].iloc[0])


def _printed(dominated: pd.DataFrame, ours: pd.DataFrame) -> list[Table]:
    text = printed_table(dominated, varying(ours)) if len(dominated) else dominated
    return [Table("The paper's rows, and our best at their compression or more", text)] if len(text) else []


def _goals(goals: pd.DataFrame, ours: pd.DataFrame, source: str) -> list[Table]:
    return [Table("Goals", goals_table(goals, varying(ours), source))] if len(goals) else []


def unrounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame of `paper.beside` with ranks written as in the papers and the config as JSON."""
    printed = rows["printed_ranks"].map(lambda ranks: "-".join(map(str, ranks)), na_action="ignore")
    ranks = rows["ranks"].map(lambda layers: "-".join(f"{rank:g}" for rank in layers.values()))
    return rows.assign(ranks=ranks, printed_ranks=printed, config=rows["config"].map(json.dumps))


if __name__ == "__main__":
    command(sys.argv[1:], "experiments.table", make)
