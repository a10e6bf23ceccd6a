"""An axis of compressions in %, logarithmic in what remains: 90, 99 and 99.9 % are equally far apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What an axis may name, and which part of it must lie between two names.
_NAMED = [0, 20, 40, 50, 60, 70, 75, 80, 85, 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5]
_APART = 0.08


def to_scale(compression: Any) -> Any:
    """Returns where compressions lie on the axis."""
    return -np.log10(np.maximum(100.0 - compression, 1e-3))


def from_scale(place: Any) -> Any:
    """Returns the compressions that lie there."""
    return 100.0 - 10.0 ** (-place)


def compression_axis(grid: Iterable[Axes]) -> None:
    """Makes the x axes logarithmic in what remains."""
    for axes in grid:
        axes.set_xscale("function", functions=(to_scale, from_scale))


def label_compressions(grid: Iterable[Axes]) -> None:
    """Names compressions within the limits of the axes."""
    from matplotlib.ticker import FixedLocator, NullLocator

    for axes in grid:
        axes.xaxis.set_major_locator(FixedLocator(named(*axes.get_xlim())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")


def named(left: float, right: float) -> list[float]:
    """Returns the compressions to name, the highest first: they matter most."""
    apart = _APART * (to_scale(right) - to_scale(left))
    ticks: list[float] = []
    for tick in reversed(_NAMED):
        if left <= tick <= right and (not ticks or to_scale(ticks[-1]) - to_scale(tick) >= apart):
            ticks.append(tick)
    return ticks
