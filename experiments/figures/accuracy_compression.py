"""Test accuracy over compression, the papers' printed points beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments import paper
from experiments.aggregate import DISPLAY_NAMES, aggregate
from experiments.collection import Collection
from experiments.figures.compression import compression_axis, from_scale, label_compressions, to_scale
from experiments.figures.plotting import DENSE, GREY, Label, label_points, panels, style
from experiments.figures.variants import Variant, keys_of, variant_of, variants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_FEW = 2
_PRINTED_LINES = ["dotted", "dashdot", "dashed"]


def accuracy_compression(collection: Collection) -> Figure | None:
    """Draws a line per method through its points, ± one standard deviation over seeds, dense as a level.

    What varies besides method, τ and rank makes a panel of its own, with the printed points of that set-up. The axis
    is logarithmic in the parameters that remain. Compression counts all weight matrices, as DLRT does; if all printed
    tables are abc-PSI's, the low-rank layers only. Returns None if no low-rank run was finished and tested.
    """
    rows = aggregate(collection.records)
    rows = rows[rows["accuracy"].notna()]
    if (rows["method"] == "dense").all():
        return None
    printed = paper.select(list(collection.preset.table.get("paper", [])))
    printed = printed.dropna(subset=["accuracy"])
    abc_psi = set(printed["paper"]) == {paper.ABC_PSI}
    rows = rows.assign(x=rows[paper.compression_column(paper.ABC_PSI if abc_psi else paper.DLRT)])
    keys = keys_of(collection.records)
    shown = variants(rows, keys)
    columns = min(_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure, grid = panels(lines, columns, (max(5.4, 3.6 * columns), 1.2 + 3.1 * lines), sharey="all")
    figure.suptitle(collection.preset.title, fontsize=10)
    compression_axis(grid.flat)
    grid[0, 0].set(**_limits(rows, printed))
    label_compressions(grid.flat)
    for axes, variant in zip(grid.flat, shown, strict=False):
        axes.set_xlabel("compression in %" + " of the low-rank layers" * abc_psi)
        _draw(axes, variant, _of(rows, keys, variant), printed)
    for axes in grid[:, 0]:
        axes.set_ylabel("test accuracy in %")
    for axes in grid.flat[len(shown) :]:
        axes.set_axis_off()
    _legend(figure, grid.flat, printed, abc_psi)
    for axes, variant in zip(grid.flat, shown, strict=False):
        label_points(axes, _labels(_of(rows, keys, variant)))
    return figure


def _of(rows: pd.DataFrame, keys: list[str], variant: Variant) -> pd.DataFrame:
    """Returns the rows of the variant; a dense network of no variant belongs to each."""
    dense = rows["method"] == "dense"
    own = pd.Series([variant_of(config, keys) == variant for config in rows["config"]], index=rows.index)
    return rows[own] if (own & dense).any() else rows[own | dense]


def _limits(rows: pd.DataFrame, printed: pd.DataFrame) -> dict[str, tuple[float, float]]:
    ours = rows[rows["method"] != "dense"]
    floor = ours["accuracy"].min() - 0.07  # printed points further below would press ours together
    points = printed[(printed["method"] != "dense") & (printed["accuracy"] > floor)]
    spread = rows["accuracy_std"].fillna(0).clip(upper=0.01)  # so would an unstable method
    low, high = _padded(pd.concat([rows["accuracy"] - spread, rows["accuracy"] + spread, points["accuracy"]]), 0.002)
    left, right = _padded(to_scale(100 * pd.concat([ours["x"], points["compression"]])), 0.03)
    return {"xlim": (from_scale(left), from_scale(right)), "ylim": (100 * low, min(100 * high, 100.0))}


def _padded(values: pd.Series, least: float) -> tuple[float, float]:
    pad = max(0.06 * (values.max() - values.min()), least)
    return values.min() - pad, values.max() + pad


def _draw(axes: Axes, variant: Variant, rows: pd.DataFrame, printed: pd.DataFrame) -> None:
    ours, dense = rows[rows["method"] != "dense"], rows[rows["method"] == "dense"]
    low = axes.get_ylim()[0] / 100
    points = _beside(printed, ours)
    for _, line in ours.groupby("method", sort=False):
        _draw_ours(axes, line.sort_values("x"))
    before = ours[ours["start_accuracy"] >= low]
    if len(before):
        axes.plot(100 * before["x"], 100 * before["start_accuracy"], "x", color=DENSE, label="truncated, not trained")
    for _, row in dense.iterrows():
        axes.axhline(100 * row["accuracy"], color=DENSE, linewidth=1, linestyle="--", label="dense")
    for accuracy in points.loc[(points["method"] == "dense") & (points["accuracy"] > low), "accuracy"]:
        axes.axhline(100 * accuracy, color=GREY, linewidth=1, linestyle=":", label="dense, printed")
    points = points[(points["method"] != "dense") & (points["accuracy"] > low)]
    tables = dict(zip((points["paper"] + ", " + points["table"]).unique(), _PRINTED_LINES, strict=False))
    for (source, table, _), line in points.groupby(["paper", "table", "method"], sort=False):
        _draw_printed(axes, line, tables[f"{source}, {table}"], alone=line["method"].iloc[0] not in set(ours["method"]))
    named = [f"{table} ({line})" if len(tables) > 1 else table for table, line in tables.items()]
    axes.set_title(
        "\n".join(filter(None, [variant.title, "open symbols: " * bool(named) + "; ".join(named)])), fontsize=8
    )


def _beside(printed: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Returns the printed points of the set-up of `ours`: its output layer, and its learning rate if one is printed."""
    printed = printed[printed["output_dense"].isin(ours["output_dense"]) | (printed["method"] == "dense")]
    same = printed["lr"].isin(ours["lr"])
    return printed[same | printed["lr"].isna()] if same.any() else printed


def _draw_ours(axes: Axes, line: pd.DataFrame) -> None:
    method = line["method"].iloc[0]
    color, marker = style(method)
    axes.errorbar(
        100 * line["x"], 100 * line["accuracy"], yerr=100 * line["accuracy_std"], color=color, marker=marker,
        linewidth=1.2, capsize=2, label=DISPLAY_NAMES.get(method, method), zorder=3,
    )  # fmt: skip


def _draw_printed(axes: Axes, line: pd.DataFrame, look: str, alone: bool) -> None:
    """Draws a printed method; one that stands `alone`, without a line of ours, is named."""
    method = line["method"].iloc[0]
    color, marker = style(method)
    axes.plot(
        100 * line["compression"], 100 * line["accuracy"], color=color, marker=marker, markerfacecolor="white",
        markersize=4, linewidth=0.8, linestyle=look, zorder=2,
        label=f"{DISPLAY_NAMES.get(method, method)}, printed" if alone else None,
    )  # fmt: skip


def _legend(figure: Figure, grid: list[Axes], printed: pd.DataFrame, abc_psi: bool) -> None:
    handles: dict[str, Any] = {}
    for axes in grid:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    names = sorted(handles, key=lambda name: name.startswith("dense"))  # lines with points before levels
    low = grid[0].get_ylim()[0] / 100
    notes = []
    if outside := int(((printed["accuracy"] <= low) & (printed["method"] != "dense")).sum()):
        notes.append(f"printed points below the axis: {outside}")
    if paper.ABC_PSI in set(printed["paper"]) and not abc_psi:
        notes.append(f"{paper.ABC_PSI} counts low-rank layers only")
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=4, fontsize=8,
                  title="; ".join(notes) or None, title_fontsize=8)  # fmt: skip


def _labels(rows: pd.DataFrame) -> list[Label]:
    """Returns a label for each rank-adaptive point, then for those of fixed rank where they are few or alone."""
    adaptive, fixed = rows[rows["tau"].notna()].sort_values("tau"), rows[rows["rank"].notna()]
    few = fixed.groupby("method")["method"].transform("size") <= _FEW
    named = pd.concat([adaptive, fixed[few] if len(adaptive) else fixed])
    return [_label(row) for _, row in named.iterrows()]


def _label(row: pd.Series) -> Label:
    text = f"r = {row['rank']:g}" if pd.isna(row["tau"]) else f"τ = {row['tau']:g}"
    spread = 0.0 if pd.isna(row["accuracy_std"]) else row["accuracy_std"]
    return Label(100 * row["x"], 100 * row["accuracy"], 100 * spread, text, style(row["method"])[0])
