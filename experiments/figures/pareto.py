"""What a search found: accuracy over compression of all its runs, and those that no other one beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.aggregate import DISPLAY_NAMES, Record
from experiments.collection import Collection
from experiments.figures.compression import compression_axis, from_scale, label_compressions, to_scale
from experiments.figures.plotting import DENSE, GREY, Label, label_points, panels
from experiments.objective import front
from experiments.searches import searched

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "viridis_r"  # kept apart by colour-blind readers, too
_SMALL, _LARGE = 15.0, 110.0  # points² of the markers of the lowest and the highest learning rate


def pareto(collection: Collection) -> Figure | None:
    """Draws a point per run, its colour τ, its size the learning rate, both on logarithmic scales, and the front.

    The front is the highest accuracy that some run has at a compression or above it. Accuracies are those of
    validation data; of test data where no run has others. The compression axis is logarithmic in the parameters that
    remain. Returns None if the preset is no search, or none of its runs is finished.
    """
    runs = pd.DataFrame([_row(record) for record in collection.records if record["status"] == "done"], dtype=float)
    if not searched(collection.preset) or runs.empty:
        return None
    part = "validation" if runs["validation"].notna().any() else "test"
    runs = runs.assign(accuracy=100 * runs[part]).dropna(subset="accuracy").sort_values("compression")
    best = runs.iloc[front(runs[["compression", "accuracy"]].to_numpy().tolist())]
    figure, grid = panels(1, 1, (6.6, 4.6))
    axes = grid[0, 0]
    compression_axis([axes])
    axes.set(xlabel="compression in %", ylabel=f"{part} accuracy in %", xlim=_limits(runs["compression"]))
    label_compressions([axes])
    axes.plot(best["compression"], best["accuracy"], color=GREY, linewidth=1, drawstyle="steps-pre", zorder=1,
              label=f"best of the runs: {len(best)}")  # fmt: skip
    _draw(axes, runs)
    axes.plot(runs["compression"], runs["accuracy"], ".", alpha=0)  # labels keep clear of the points of lines
    figure.suptitle(_title(collection), fontsize=10)
    label_points(axes, [_label(row) for _, row in best.iterrows()])
    return figure


def _row(record: Record) -> dict[str, Any]:
    config, final = record["config"], record["final"]
    return {
        "validation": final["val_accuracy"],
        "test": final["test_accuracy"],
        "compression": 100 * final["compression"],
        "tau": config["tau"],
        "lr": config["trainer"]["lr"],
    }


def _limits(compression: pd.Series) -> tuple[float, float]:
    places = to_scale(compression)
    pad = max(0.06 * (places.max() - places.min()), 0.02)
    return from_scale(places.min() - pad), from_scale(places.max() + pad)


def _draw(axes: Axes, runs: pd.DataFrame) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = runs["lr"].min(), runs["lr"].max()
    look: dict[str, Any] = {"edgecolors": DENSE, "linewidths": 0.4, "zorder": 3}
    taus = runs["tau"].dropna()
    if len(taus) < len(runs):
        rest = runs[runs["tau"].isna()]
        axes.scatter(rest["compression"], rest["accuracy"], s=sizes(rest["lr"], low, high), color=GREY, **look)
    if len(taus):
        with_tau = runs.loc[taus.index]
        points = axes.scatter(
            with_tau["compression"], with_tau["accuracy"], s=sizes(with_tau["lr"], low, high), c=taus, cmap=_COLOURS,
            norm=LogNorm(taus.min(), taus.max()), **look,
        )  # fmt: skip
        bar = axes.figure.colorbar(points, ax=axes, label="τ", pad=0.02)
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter("{x:g}")
    for lr in sorted({low, (low * high) ** 0.5, high}):
        axes.scatter([], [], s=sizes(pd.Series([lr]), low, high), color="white", label=f"lr {lr:.2g}", **look)
    axes.legend(fontsize=8, loc="lower left")


def sizes(lr: pd.Series, low: float, high: float) -> Any:
    """Returns the sizes of markers, logarithmic in the learning rate."""
    part = np.log(lr / low) / np.log(high / low) if high > low else 0.5 + 0 * lr
    return _SMALL + (_LARGE - _SMALL) * part


def _title(collection: Collection) -> str:
    config = collection.records[0]["config"]
    diverged = sum(record["status"] == "diverged" for record in collection.records)
    method = config["integrator"]["name"]
    words = [DISPLAY_NAMES.get(method, method), config["model"]["name"], config["data"]["name"]]
    return f"{collection.title}\n{', '.join(words)}: n = {len(collection.records)}, {diverged} of them diverged"


def _label(row: pd.Series) -> Label:
    text = f"τ {row['tau']:.2g}, " * pd.notna(row["tau"]) + f"lr {row['lr']:.2g}"
    return Label(row["compression"], row["accuracy"], 0.0, text, DENSE)
