"""A table of text as Markdown, as LaTeX and on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pandas as pd

# A terminal with fewer columns gets a table without _SPARE.
_WIDE = 140
_SPARE = ["ranks", "params", "low-rank only"]
_WRAPPED = ["method", "low-rank only", "paper's row"]
_TEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "τ": r"$\tau$", "Σ": r"$\Sigma$",
                      "−": "$-$", "–": "--", "§": r"\S "})  # fmt: skip


def markdown(text: pd.DataFrame, title: str, lines: Sequence[str]) -> str:
    """Returns title, table and footer as GitHub Markdown."""
    header, rule = " | ".join(text.columns), " | ".join("---" for _ in text.columns)
    rows = [" | ".join(row) for row in text.itertuples(index=False)]
    table = "\n".join(f"| {row} |" for row in (header, rule, *rows))
    return "\n\n".join([f"# {title}", table, *lines]) + "\n"


def latex(text: pd.DataFrame) -> str:
    """Returns the table as a LaTeX tabular for the package booktabs."""
    escaped = text.map(lambda cell: cell.translate(_TEX)).rename(columns=lambda name: name.translate(_TEX))
    return escaped.style.hide(axis="index").to_latex(hrules=True)


def show(text: pd.DataFrame, title: str, lines: Sequence[str]) -> None:
    """Prints the table with colours and rules on a terminal, as Markdown into a pipe."""
    if not sys.stdout.isatty():
        print(markdown(text, title, lines), end="")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if console.width < _WIDE:
        text = text.drop(columns=_SPARE, errors="ignore")
        lines = [*lines, f"A terminal of {_WIDE} columns shows more; all is in table.md."]
    table = Table(title=title, caption="\n".join(lines), caption_justify="left", box=SIMPLE_HEAD)
    table.padding, table.show_edge = (0, 1, 0, 0), False
    for name in text.columns:
        wraps = name in _WRAPPED
        table.add_column(name, justify="left" if wraps else "right", no_wrap=not wraps)
    for row in text.itertuples(index=False):
        table.add_row(*row)
    console.print(table)
