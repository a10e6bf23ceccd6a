"""The rank of every layer over the epochs of a training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from experiments.aggregate import DISPLAY_NAMES, Record, group_key
from experiments.collection import Collection
from experiments.figures.plotting import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_COLUMNS = 6
_DASHES = ["-", "--", "-.", ":"]


def rank_evolution(collection: Collection) -> Figure | None:
    """Draws a row of panels per rank-adaptive integrator and a column per layer, τ by colour and line style.

    Epoch 0 shows the start rank. Lines are means over seeds, bands their extremes. With more than six layers all
    share one column. Returns None if no rank-adaptive run has finished an epoch.
    """
    records = [r for r in collection.records if r["config"]["tau"] is not None and r["history"]]
    if not records:
        return None
    methods = _unique(record["config"]["integrator"]["name"] for record in records)
    layers = _unique(layer for record in records for layer in record["history"][0]["ranks"])
    columns = {f"layer {layer}": [layer] for layer in layers}
    looks = _looks({record["config"]["tau"] for record in records})
    if len(layers) > _MAX_COLUMNS:
        columns = {f"all {len(layers)} layers": layers}
        looks = {tau: look | {"linewidth": 0.5, "linestyle": "-"} for tau, look in looks.items()}
    figure, grid = panels(len(methods), len(columns), (1.6 + 1.5 * max(len(columns), 2), 0.7 + 1.6 * len(methods)))
    for (row, method), (column, shown) in product(enumerate(methods), enumerate(columns.values())):
        for group, layer in product(_groups(records, method), shown):
            _draw(grid[row, column], _ranks(group, layer), looks[group[0]["config"]["tau"]])
    _name(grid, methods, columns)
    handles = {handle.get_label(): handle for axes in grid.flat for handle in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=[handles[look["label"]] for look in looks.values()], loc="outside right upper")
    return figure


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _looks(taus: Iterable[float]) -> dict[float, dict[str, Any]]:
    from matplotlib import colormaps

    ordered = sorted(taus)
    shades = colormaps["viridis"].resampled(len(ordered) + 1)  # the last one is too light for paper
    return {
        tau: {"label": f"τ = {tau:g}", "color": shades(i), "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.2}
        for i, tau in enumerate(ordered)
    }


def _groups(records: Sequence[Record], method: str) -> list[list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["config"]["integrator"]["name"] == method:
            groups.setdefault(group_key(record["config"]), []).append(record)
    return list(groups.values())


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


def _name(grid: Any, methods: Sequence[str], columns: Iterable[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for axes, title in zip(grid[0], columns, strict=True):
        axes.set_title(title, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    for axes, method in zip(grid[:, 0], methods, strict=True):
        axes.set_ylabel(f"{DISPLAY_NAMES.get(method, method)}\nrank")
        axes.set_ylim(bottom=0)
