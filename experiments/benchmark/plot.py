"""The plot of a benchmark: the time of each step over the dense one's, with its target and floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from experiments.benchmark.table import fine_tuning
from experiments.figures.plotting import DENSE, GREY, panels, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.2  # inches


def time_against_dense(rows: pd.DataFrame, title: str) -> Figure:
    """A line per record: median and quartiles over the dense median, floor, target and separate passes."""
    from matplotlib.ticker import FuncFormatter

    figure, grid = panels(1, 1, (7.6, 1.4 + _ROW * len(rows)))
    axes: Axes = grid[0, 0]
    tunes = fine_tuning(rows)
    axes.set(
        xscale="log",
        xlabel=f"time of a step / {'full fine-tuning' if tunes else 'dense'}",
        title=title,
        ylim=(len(rows) - 0.4, -0.6),
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axvline(1, color=DENSE, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [_name(row) for _, row in rows.iterrows()], fontsize=7)
    axes.tick_params(axis="y", length=0)
    for name, part in rows.assign(y=range(len(rows))).groupby("method", sort=False):
        _measured(axes, str(name), part)
    _marks(axes, rows, "floor_ratio", "floor", GREY, "|")
    _marks(axes, rows, "target_ratio", "target", "#000000", "<")
    _marks(axes, rows.assign(passes=rows["reference_median"] / rows["dense_median"]), "passes", "separate passes",
           GREY, "x")  # fmt: skip
    figure.legend(loc="outside lower center", ncols=5)
    return figure


def _name(row: pd.Series) -> str:
    precision = "" if row["precision"] == "fp32" else f" {row['precision']}"
    return f"{row['net']}, batch {row['batch']}, rank {row['rank']}{precision}"


def _measured(axes: Axes, name: str, part: pd.DataFrame) -> None:
    color, marker = style(str(part["integrator"].iloc[0]))
    ratio = part["ratio"].to_numpy(float)
    spread = [ratio - (part["q1"] / part["dense_median"]).to_numpy(float),
              (part["q3"] / part["dense_median"]).to_numpy(float) - ratio]  # fmt: skip
    fill = "none" if "inner" in name else "full"
    axes.errorbar(ratio, part["y"], xerr=spread, linestyle="", color=color, marker=marker, fillstyle=fill, label=name)


def _marks(axes: Axes, rows: pd.DataFrame, column: str, label: str, color: str, marker: str) -> None:
    if column in rows and rows[column].notna().any():
        x = rows[column].astype(float)
        axes.plot(
            x, range(len(rows)), linestyle="", color=color, marker=marker, fillstyle="none", markersize=6, label=label
        )
