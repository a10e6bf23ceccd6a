"""Time relative to the dense net's over the rank, the paper's behind ours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from experiments.aggregate import DISPLAY_NAMES
from experiments.collection import Collection
from experiments.figures.plotting import GREY, panels, style
from experiments.timing_table import beside, printed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORK = {"time_training": "one training step", "time_prediction": "a prediction"}


def time_rank(collection: Collection) -> Figure | None:
    """Draws a line per method, both axes logarithmic, dense as a level. Returns None without a timed low-rank net."""
    timed = [r for r in collection.records if r["config"]["task"] in _WORK and r["config"]["rank"] is not None]
    if not any(record["status"] == "done" for record in timed):
        return None
    rows = beside(replace(collection, records=timed))
    figure, grid = panels(1, 1, (6.4, 3.6))
    axes: Axes = grid[0, 0]
    axes.set(xscale="log", yscale="log", xlabel="rank of the hidden layers")
    axes.set_ylabel(f"time of {_WORK[timed[0]['config']['task']]} / dense")
    axes.set_title(collection.preset.title)
    axes.axhline(1, color="#404040", linewidth=1, linestyle="--", label="dense")
    for method, line in rows.groupby("method", sort=False):
        color, marker = style(str(method))
        _draw(axes, line, DISPLAY_NAMES.get(str(method), str(method)), color=color, marker=marker, zorder=3)
    paper = printed(collection.preset.table.get("paper", [])).dropna(subset="rank")
    if len(paper):
        _draw(axes, paper, "DLRT 2022", color=GREY, marker="o", markerfacecolor="none", linestyle=":", zorder=1)
    _name_ticks(axes, {*map(int, rows["rank"]), *map(int, paper["rank"])})
    figure.legend(loc="outside right center")
    return figure


def _draw(axes: Axes, line: pd.DataFrame, label: str, **look: object) -> None:
    line = line.astype({"rank": float}).sort_values("rank")
    axes.plot(line["rank"], line["ratio"], linewidth=1, label=label, **look)  # type: ignore[arg-type]


def _name_ticks(axes: Axes, ranks: set[int]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(FixedLocator(sorted(ranks)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
