"""The rank of every layer after every epoch as a map: layers downwards in depth order, epochs to the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.adapter_rows import is_adaptive, label_of
from experiments.aggregate import Record, group_key
from experiments.collection import Collection
from experiments.figures.layer_names import short_names
from experiments.figures.plotting import panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

_COLORS = "viridis_r"
_DARK = 0.55  # of the colours: what is darker is written on in white
_ROW, _COLUMN, _WIDEST, _LOWEST = 0.105, 0.24, 3.0, 1.2  # inches of a cell, and of a panel
_TEXT, _HEADING = 5.0, 7.0  # points
_NUMBERED = 12  # epochs, above which there is no room for numbers


def rank_heatmap(collection: Collection) -> Figure | None:
    """Draws a panel per configuration whose ranks adapt, a row of them per model and data set; means over seeds.

    Epoch 0 is the start rank; all panels share one scale of colours. Returns None if no such run has finished an epoch.
    """
    groups: dict[str, list[Record]] = {}
    for record in collection.records:
        if _has_map(record):
            groups.setdefault(group_key(record["config"]), []).append(record)
    rows: dict[tuple[str, ...], list[list[Record]]] = {}
    for group in groups.values():
        rows.setdefault(_row_of(group[0]), []).append(group)
    return _draw(list(rows.values()), collection.preset.title) if rows else None


def rank_heatmap_of(record: Record) -> Figure | None:
    """Draws the map of one run; returns None if its ranks do not adapt or it has finished no epoch."""
    return _draw([[[record]]]) if _has_map(record) else None


def ranks_of(record: Record) -> pd.DataFrame:
    """Returns layers × epochs, from the start rank at epoch 0 on."""
    rank, shapes = record["config"]["rank"], (record["final"] or {}).get("shapes", {})
    layers = list(record["history"][0]["ranks"])
    start = {layer: min(rank, *shapes.get(layer, [rank])) for layer in layers}
    after = {row["epoch"]: row["ranks"] for row in record["history"]}
    return pd.DataFrame({0: start} | after, index=layers, dtype=float)


def _has_map(record: Record) -> bool:
    return bool(record["history"]) and is_adaptive(record["config"])


def _row_of(record: Record) -> tuple[str, ...]:
    """Returns what the panels of a row share: model, data and layers."""
    return (record["config"]["model"]["name"], record["config"]["data"]["name"], *record["history"][0]["ranks"])


def _draw(rows: Sequence[Sequence[Sequence[Record]]], title: str = "") -> Figure:
    from matplotlib.colors import PowerNorm

    maps = [[_mean(group) for group in row] for row in rows]
    epochs = range(max(ranks.shape[1] for row in maps for ranks in row))
    norm = PowerNorm(0.5, 0, max(ranks.max().max() for row in maps for ranks in row))  # small ranks differ most
    figure, grid = panels(len(rows), max(map(len, rows)), _size(maps, len(epochs)))
    figure.suptitle(title, fontsize=9)
    for line, groups, means in zip(grid, rows, maps, strict=True):
        for axes, group, ranks in zip(line, groups, means, strict=False):
            _panel(axes, ranks.reindex(columns=epochs), norm)
            _name_layers(axes, ranks.index)
            axes.set_title(_title(group), fontsize=_HEADING)
        for axes in line[len(groups) :]:
            axes.set_axis_off()
        line[0].set_ylabel(", ".join(_row_of(groups[0][0])[:2]), fontsize=_HEADING)
    _name_colors(figure, grid, norm)
    return figure


def _size(maps: Sequence[Sequence[pd.DataFrame]], epochs: int) -> tuple[float, float]:
    columns, width = max(map(len, maps)), min(_COLUMN * max(epochs, 4), _WIDEST)
    heights = [max(_ROW * len(row[0]), _LOWEST) + 0.6 for row in maps]
    return 1.3 + columns * (width + 0.25), 0.5 + sum(heights)


def _mean(group: Sequence[Record]) -> pd.DataFrame:
    return pd.concat([ranks_of(record) for record in group]).groupby(level=0, sort=False).mean()


def _title(group: Sequence[Record]) -> str:
    config = group[0]["config"]
    budget = config["integrator"].get("rank_budget")
    words = [f"τ = {config['tau']:g}"] if config["tau"] is not None else []
    words += [f"budget {budget}"] if budget is not None else []
    words += [f"lr {config['trainer']['lr']:g}"]
    return f"{label_of(config)}\n{', '.join([*words, f'n = {len(group)}'])}"


def _panel(axes: Axes, ranks: pd.DataFrame, norm: Normalize) -> None:
    layers, epochs = ranks.shape
    axes.pcolormesh(ranks.to_numpy(), norm=norm, cmap=_COLORS, edgecolors="white", linewidth=0.2)
    axes.set(xlim=(0, epochs), ylim=(layers, 0))
    shown = range(0, epochs, -(-epochs // _NUMBERED))
    axes.set_xticks([epoch + 0.5 for epoch in shown], [str(epoch) for epoch in shown], fontsize=_TEXT + 1)
    axes.set_xlabel("epoch", fontsize=_HEADING)
    axes.tick_params(length=0, pad=1, labelbottom=True)
    if epochs <= _NUMBERED + 1:
        _number(axes, ranks.to_numpy(), norm)


def _number(axes: Axes, ranks: Any, norm: Normalize) -> None:
    look: dict[str, Any] = {"fontsize": _TEXT, "horizontalalignment": "center", "verticalalignment": "center_baseline"}
    for (row, column), rank in np.ndenumerate(ranks):
        if not np.isnan(rank):
            color = "white" if norm(rank) > _DARK else "black"
            axes.text(column + 0.5, row + 0.5, f"{rank:.0f}", color=color, **look)


def _name_layers(axes: Axes, layers: Any) -> None:
    names = short_names([str(layer) for layer in layers])
    axes.set_yticks([place + 0.5 for place in range(len(names))], names, fontsize=_TEXT)
    blocks = [name.split()[0] for name in names]
    for place in range(1, len(names)):
        if blocks[place] != blocks[place - 1] and len(set(blocks)) < len(blocks):
            axes.axhline(place, color="black", linewidth=0.6)


def _name_colors(figure: Figure, grid: Any, norm: Normalize) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(integer=True)
    bar = figure.colorbar(ScalarMappable(norm, _COLORS), ax=grid, fraction=0.03, aspect=40, ticks=ticks)
    bar.set_label("rank", fontsize=_HEADING)
    bar.ax.tick_params(labelsize=_HEADING)
