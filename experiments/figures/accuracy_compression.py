"""Test accuracy over compression, the papers' printed points behind ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from experiments import paper
from experiments.aggregate import DISPLAY_NAMES, aggregate
from experiments.collection import Collection
from experiments.figures.plotting import GREY, Label, label_points, panels, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def accuracy_compression(collection: Collection) -> Figure | None:
    """Draws a line per method through its points, ± one standard deviation over seeds, dense as a level.

    Compression counts all weight matrices, as DLRT does; if all printed tables are abc-PSI's, the low-rank
    layers only. Returns None if no low-rank run has finished.
    """
    rows = aggregate(collection.records)
    rows = rows[rows["n"] > 0]
    printed = paper.select(list(collection.preset.table.get("paper", [])))
    printed = printed[printed["method"].isin(rows["method"])].dropna(subset=["accuracy"])
    abc_psi = set(printed["paper"]) == {paper.ABC_PSI}
    rows = rows.assign(x=rows[paper.compression_column(paper.ABC_PSI if abc_psi else paper.DLRT)])
    if (rows["method"] == "dense").all():
        return None
    figure, grid = panels(1, 1, (7.2, 4.2))
    axes: Axes = grid[0, 0]
    axes.set(xlabel="compression in %" + " of the low-rank layers" * abc_psi, ylabel="test accuracy in %")
    axes.set_title(collection.preset.title)
    _draw(axes, rows, printed)
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    figure.legend(handles=[*axes.containers, *named], loc="outside right upper")
    low_rank = rows[rows["method"] != "dense"].sort_values("tau", kind="stable")  # fixed ranks, without τ, last
    label_points(axes, [_label(row) for _, row in low_rank.iterrows()])
    return figure


def _draw(axes: Axes, rows: pd.DataFrame, printed: pd.DataFrame) -> None:
    ours, dense = rows[rows["method"] != "dense"], rows[rows["method"] == "dense"]
    points, printed_dense = printed[printed["method"] != "dense"], printed[printed["method"] == "dense"]
    near = _near(points, ours)
    spread = rows["accuracy_std"].fillna(0).clip(upper=0.01)  # an unstable method would flatten all others
    heights = [rows["accuracy"] - spread, rows["accuracy"] + spread, near["accuracy"]]
    _limit(axes, _padded(ours["x"], 0.025), _padded(pd.concat(heights), 0.002))
    for _, line in ours.groupby("method", sort=False):
        _draw_ours(axes, line.sort_values("x"))
    for _, row in dense.iterrows():
        axes.axhline(100 * row["accuracy"], color="#404040", linewidth=1, linestyle="--", label="dense")
    for _, row in printed_dense.drop_duplicates("paper").iterrows():
        _draw_printed_dense(axes, row)
    for _, line in near.groupby(["paper", "method"], sort=False):
        _draw_printed(axes, line)
    if len(near) < len(points):
        _note(axes, f"(printed points outside: {len(points) - len(near)})")
    if paper.ABC_PSI in set(near["paper"]) and paper.DLRT in set(printed["paper"]):
        _note(axes, f"({paper.ABC_PSI} counts\nlow-rank layers only)")


def _near(printed: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    # Printed points far from ours would press ours into a corner.
    left, right = _padded(ours["x"], 0.025)
    return printed[printed["compression"].between(left, right) & (printed["accuracy"] > ours["accuracy"].min() - 0.02)]


def _padded(values: pd.Series, least: float) -> tuple[float, float]:
    pad = max(0.15 * (values.max() - values.min()), least)
    return values.min() - pad, min(values.max() + pad, 1.005)


def _limit(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set(xlim=(100 * x[0], 100 * x[1]), ylim=(100 * y[0], 100 * y[1]))


def _draw_ours(axes: Axes, line: pd.DataFrame) -> None:
    method = line["method"].iloc[0]
    color, marker = style(method)
    axes.errorbar(
        100 * line["x"], 100 * line["accuracy"], yerr=100 * line["accuracy_std"], color=color, marker=marker,
        linewidth=1, capsize=2, label=DISPLAY_NAMES.get(method, method), zorder=3,
    )  # fmt: skip


def _draw_printed(axes: Axes, line: pd.DataFrame) -> None:
    source, method = line[["paper", "method"]].iloc[0]
    axes.plot(
        100 * line["compression"], 100 * line["accuracy"], color=GREY, marker=style(method)[1], markerfacecolor="none",
        linewidth=0.7, linestyle=":", label=f"{source}: {DISPLAY_NAMES[method]}", zorder=1,
    )  # fmt: skip


def _draw_printed_dense(axes: Axes, row: pd.Series) -> None:
    low, high = axes.get_ylim()
    if low < 100 * row["accuracy"] < high:
        axes.axhline(100 * row["accuracy"], color=GREY, linewidth=1, linestyle=":", label=f"{row['paper']}: dense")


def _note(axes: Axes, text: str) -> None:
    axes.plot([], [], " ", label=text)


def _label(row: pd.Series) -> Label:
    fixed = pd.isna(row["tau"])
    text = f"r = {max(row['ranks'].values()):.0f}" if fixed else f"τ = {row['tau']:g}"
    spread = 0.0 if pd.isna(row["accuracy_std"]) else row["accuracy_std"]
    return Label(100 * row["x"], 100 * row["accuracy"], 100 * spread, text, style(row["method"])[0])
