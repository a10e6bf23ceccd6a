"""Test accuracy over the parameters of the adapters, the paper's points beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.adapter_rows import PROBE, adapter_rows, name_of
from experiments.collection import Collection
from experiments.figures.plotting import DENSE, GREY, Label, label_points, panels, style
from experiments.words import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Without adapters: drawn as levels, unless so far from the points that these would be pressed together.
_LEVELS = {"dense": (DENSE, "--"), PROBE: (GREY, "-.")}
_FAR = 2.0  # times the range of the points, and per cent more
_NAMED = (1, 1.5, 2, 3, 4, 5, 7)


def accuracy_params(collection: Collection) -> Figure | None:
    """Draws a panel per model and data set: the mean ± one standard deviation over seeds of each way to fine-tune.

    Parameters are those of the adapters, as the paper counts them, on a logarithmic axis; the paper's own points stand
    beside its model only. Returns None if no run with adapters was finished and tested.
    """
    rows = adapter_rows(collection.records)
    rows = rows[rows["accuracy"].notna()]
    parts = [part for _, part in rows.groupby(["model", "data"], sort=False) if part["mebi"].notna().any()]
    if not parts:
        return None
    figure, grid = panels(1, len(parts), (1.0 + 4.2 * len(parts), 4.0), sharey="none")
    figure.suptitle(collection.preset.title, fontsize=10)
    handles: dict[str, Any] = {}
    for axes, part in zip(grid[0], parts, strict=True):
        _panel(axes, part)
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    grid[0, 0].set_ylabel("test accuracy in %")
    _name_ticks(grid[0, 0])
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize=8)
    for axes, part in zip(grid[0], parts, strict=True):
        rates = part.groupby("method")["lr"].nunique()
        label_points(
            axes, [_label(row, bool(rates[row["method"]] > 1)) for _, row in part.dropna(subset="mebi").iterrows()]
        )
    return figure


def _panel(axes: Axes, part: pd.DataFrame) -> None:
    points, levels = part[part["mebi"].notna()], part[part["method"].isin(_LEVELS)]
    for (method, _), rows in points.groupby(["method", "lr"], sort=False):
        _draw_points(axes, str(method), rows.sort_values("mebi"))
    printed = points["printed_accuracy"].notna().any()
    words = [", ".join(part.iloc[0][["model", "data"]]), "open symbols: abc-PSI 2025, Table 3" * bool(printed)]
    axes.set_title("\n".join(filter(None, words)), fontsize=8)
    axes.set(xscale="log", xlabel="parameters of the adapters in M (2²⁰)")
    _draw_levels(axes, levels)
    axes.margins(0.12)


def _draw_points(axes: Axes, method: str, rows: pd.DataFrame) -> None:
    color, marker = style(method)
    axes.errorbar(
        rows["mebi"], 100 * rows["accuracy"], yerr=100 * rows["accuracy_std"], color=color, marker=marker,
        linewidth=0.8, capsize=2, label=name_of(method), zorder=3,
    )  # fmt: skip
    printed = rows[["printed_mebi", "printed_accuracy"]].dropna().drop_duplicates()
    axes.plot(
        printed["printed_mebi"], 100 * printed["printed_accuracy"], color=color, marker=marker, linestyle="none",
        markerfacecolor="white", zorder=2,
    )  # fmt: skip


def _draw_levels(axes: Axes, levels: pd.DataFrame) -> None:
    low, high = axes.get_ylim()
    reach = _FAR * (high - low) + _FAR
    far = []
    for method, accuracy in zip(levels["method"], levels["accuracy"], strict=True):
        color, line = _LEVELS[method]
        if low - reach <= 100 * accuracy <= high + reach:
            axes.axhline(100 * accuracy, color=color, linewidth=1, linestyle=line, label=name_of(method))
        else:
            far.append(f"{name_of(method)}: {percent(accuracy)} %, outside")
    if far:
        axes.text(0.98, 0.02, "\n".join(far), transform=axes.transAxes, horizontalalignment="right", fontsize=7)


def _name_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=_NAMED))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label(row: pd.Series, with_rate: bool) -> Label:
    settings = {"τ": row["tau"], "budget": row["rank_budget"], "r": row["rank"]}
    sign = next(sign for sign, value in settings.items() if pd.notna(value))
    spread = 0.0 if pd.isna(row["accuracy_std"]) else row["accuracy_std"]
    text = f"{sign} = {number(settings[sign])}" + f", lr {row['lr']:g}" * with_rate
    return Label(row["mebi"], 100 * row["accuracy"], 100 * spread, text, style(row["method"])[0])
