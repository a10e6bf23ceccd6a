"""The rank of every layer over the epochs of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.aggregate import DISPLAY_NAMES, Record, group_key
from experiments.collection import Collection
from experiments.figures.plotting import panels
from experiments.figures.variants import keys_of, variant_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_COLUMNS = 6
_DASHES = ["-", "--", "-.", ":"]
_DARK = 0.85  # of the colour map: what is lighter does not show on paper
_RANKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
_MORE_RANKS = [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000]


def rank_evolution(collection: Collection) -> Figure | None:
    """Draws a row of panels per rank-adaptive integrator and variant, a column per layer, τ by colour and line style.

    Epoch 0 shows the start rank. Lines are means over seeds, bands their extremes; ranks are on a logarithmic axis.
    With more than six layers all share one column. Returns None if no rank-adaptive run has finished an epoch.
    """
    records = [r for r in collection.records if r["config"]["tau"] is not None and r["history"]]
    if not records:
        return None
    keys = keys_of(records)
    rows = _grouped(
        records, lambda record: (record["config"]["integrator"]["name"], variant_of(record["config"], keys))
    )
    layers = list(dict.fromkeys(layer for record in records for layer in record["history"][0]["ranks"]))
    columns = {f"layer {layer}": [layer] for layer in layers}
    looks = _looks({record["config"]["tau"] for record in records})
    if len(layers) > _MAX_COLUMNS:
        columns = {f"all {len(layers)} layers": layers}
        looks = {tau: look | {"linewidth": 0.5, "linestyle": "-"} for tau, look in looks.items()}
    figure, grid = panels(len(rows), len(columns), (1.6 + 1.5 * max(len(columns), 2), 0.9 + 1.9 * len(rows)))
    figure.suptitle(collection.preset.title, fontsize=10)
    for (row, runs), (column, shown) in product(enumerate(rows.values()), enumerate(columns.values())):
        _panel(grid[row, column], runs, shown, looks)
    _name(grid, [(DISPLAY_NAMES.get(method, method), variant.title) for method, variant in rows], columns)
    handles = {handle.get_label(): handle for axes in grid.flat for handle in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=[handles[look["label"]] for look in looks.values()], loc="outside right upper")
    return figure


def _panel(axes: Axes, runs: Sequence[Record], layers: Sequence[str], looks: dict[float, dict[str, Any]]) -> None:
    present = [layer for layer in layers if layer in runs[0]["history"][0]["ranks"]]
    if not present:
        axes.text(0.5, 0.5, "dense", transform=axes.transAxes, horizontalalignment="center")
    for group, layer in product(_grouped(runs, lambda record: group_key(record["config"])).values(), present):
        _draw(axes, _ranks(group, layer), looks[group[0]["config"]["tau"]])


def _grouped(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _looks(taus: Iterable[float]) -> dict[float, dict[str, Any]]:
    from matplotlib import colormaps

    ordered = sorted(taus)
    shades = [colormaps["viridis"](_DARK * i / max(1, len(ordered) - 1)) for i in range(len(ordered))]
    return {
        tau: {"label": f"τ = {tau:g}", "color": shades[i], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.2}
        for i, tau in enumerate(ordered)
    }


def _ranks(group: Sequence[Record], layer: str) -> pd.DataFrame:
    """Returns epochs × seeds; a run that ended early is missing from then on."""
    return pd.concat([pd.Series(_start(record, layer) | _after_epochs(record, layer)) for record in group], axis=1)


def _start(record: Record, layer: str) -> dict[int, int]:
    if record["config"]["rank"] is None or record["final"] is None:
        return {}
    return {0: min(record["config"]["rank"], *record["final"]["shapes"][layer])}


def _after_epochs(record: Record, layer: str) -> dict[int, int]:
    return {row["epoch"]: row["ranks"][layer] for row in record["history"]}


def _draw(axes: Axes, ranks: pd.DataFrame, look: dict[str, Any]) -> None:
    axes.plot(ranks.index, ranks.mean(axis=1), **look)
    axes.fill_between(ranks.index, ranks.min(axis=1), ranks.max(axis=1), color=look["color"], alpha=0.2, linewidth=0)


def _name(grid: Any, rows: Sequence[tuple[str, str]], columns: Iterable[str]) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    for axes, (method, variant) in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel("\n".join(filter(None, [method, variant, "rank"])))
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(FixedLocator(_RANKS if high > 8 * low else _MORE_RANKS))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
