"""Tables of text as Markdown, as LaTeX and on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# A terminal with fewer columns gets a table without _SPARE.
_WIDE = 140
_SPARE = ["ranks", "params", "low-rank only", "train params"]
_WRAPPED = ["method", "low-rank only", "paper's row", "ours", "with"]
_TEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "τ": r"$\tau$", "Σ": r"$\Sigma$",
                      "−": "$-$", "–": "--", "§": r"\S "})  # fmt: skip


class Table(NamedTuple):
    """A further table under its heading."""

    heading: str
    text: pd.DataFrame


def markdown(
    text: pd.DataFrame, title: str, lines: Sequence[str], more: Sequence[Table] = (), summary: str = ""
) -> str:
    """Returns title, summary, table, further tables and footer as GitHub Markdown."""
    tables = [part for table in more for part in (f"## {table.heading}", _rows(table.text))]
    return "\n\n".join([f"# {title}", *filter(None, [summary]), _rows(text), *tables, *lines]) + "\n"


def _rows(text: pd.DataFrame) -> str:
    header, rule = " | ".join(text.columns), " | ".join("---" for _ in text.columns)
    rows = [" | ".join(row) for row in text.itertuples(index=False)]
    return "\n".join(f"| {row} |" for row in (header, rule, *rows))


def latex(text: pd.DataFrame, more: Sequence[Table] = ()) -> str:
    """Returns each table as a LaTeX tabular for the package booktabs."""
    return "\n".join(_tabular(table) for table in (text, *(table.text for table in more)))


def _tabular(text: pd.DataFrame) -> str:
    escaped = text.map(lambda cell: cell.translate(_TEX)).rename(columns=lambda name: name.translate(_TEX))
    return escaped.style.hide(axis="index").to_latex(hrules=True)


def show(text: pd.DataFrame, title: str, lines: Sequence[str], more: Sequence[Table] = (), summary: str = "") -> None:
    """Prints the tables with colours and rules on a terminal, as Markdown into a pipe."""
    if not sys.stdout.isatty():
        print(markdown(text, title, lines, more, summary), end="")
        return
    from rich.console import Console

    console = Console()
    if console.width < _WIDE:
        text = text.drop(columns=_SPARE, errors="ignore")
        lines = [*lines, f"A terminal of {_WIDE} columns shows more; all is in table.md."]
    for table in (Table(title, text), *more):
        console.print(_ruled(table))
    console.print("\n".join(filter(None, [summary, *lines])), style="dim italic", markup=False, highlight=False)


def _ruled(table: Table) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    ruled = RichTable(title=table.heading, box=SIMPLE_HEAD)
    ruled.padding, ruled.show_edge = (0, 1, 0, 0), False
    for name in table.text.columns:
        wraps = name in _WRAPPED
        ruled.add_column(name, justify="left" if wraps else "right", no_wrap=not wraps)
    for row in table.text.itertuples(index=False):
        ruled.add_row(*row)
    return ruled
