"""How the time of a step grows with rank and width: exponents of power laws, measured and of the floor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.aggregate import DISPLAY_NAMES
from experiments.figures.plotting import DENSE, panels, style
from experiments.render import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIABLES = {"rank": "width", "width": "rank"}  # what varies, and what is fixed meanwhile
MIN_POINTS = 3


def exponent(x: pd.Series, y: pd.Series) -> float:
    """The least-squares p of y = c xᵖ on logarithmic axes."""
    return float(np.polyfit(np.log(x.astype(float)), np.log(y.astype(float)), 1)[0])


def series(rows: pd.DataFrame, variable: str) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """The integrator, the fixed value and the rows of each line along `variable` ("rank" or "width")."""
    mlps = rows[(rows["model"] == "mlp") & (rows["precision"] == "fp32")]
    mlps = mlps.assign(rank=mlps["rank"].astype(int), width=mlps["width"].astype(int))
    for (method, fixed, _), line in mlps.groupby(["integrator", VARIABLES[variable], "batch"], sort=False):
        if len(line) >= MIN_POINTS:
            yield str(method), int(str(fixed)), line.sort_values(variable)


def fits(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per line: `measured` exponent of the median time, `predicted` one of the floor's operations on the same
    points, and both over the upper half of the points, where launches and memory matter less."""
    found = []
    for variable, other in VARIABLES.items():
        for method, fixed, line in series(rows, variable):
            upper = line.iloc[(len(line) - 1) // 2 :]
            found.append(
                {"integrator": method, "against": variable, "fixed": f"{other} {fixed}", "points": len(line)}
                | {"measured": exponent(line[variable], line["median"])}
                | {"predicted": exponent(line[variable], line["floor_total"])}
                | {"measured_upper": exponent(upper[variable], upper["median"])}
                | {"predicted_upper": exponent(upper[variable], upper["floor_total"])}
            )
    return pd.DataFrame(found)


def tables(rows: pd.DataFrame) -> list[Table]:
    """The exponents as text; none if no line has three points."""
    found = fits(rows)
    if found.empty:
        return []
    numbers = [name for name in map(str, found) if name.startswith(("measured", "predicted"))]
    text = found.assign(
        integrator=found["integrator"].map(lambda name: DISPLAY_NAMES.get(name, name)),
        points=found["points"].map(str),
        **{name: found[name].map(lambda p: f"{p:.2f}") for name in numbers},
    )
    return [Table("Exponents of the step's time", text.rename(columns=lambda name: name.replace("_upper", ", upper")))]


def figures(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """A figure per variable with lines: medians with quartiles, and dotted the floor's growth."""
    for variable in VARIABLES:
        lines = list(series(rows, variable))
        if lines:
            figure, grid = panels(1, 1, (6.4, 4.4))
            axes: Axes = grid[0, 0]
            axes.set(xscale="log", yscale="log", xlabel=variable, ylabel="ms per step")
            for method, fixed, line in lines:
                _draw(axes, line, variable, method, fixed)
            _name_ticks(axes, {value for _, _, line in lines for value in line[variable]})
            figure.legend(loc="outside lower center", ncols=2, fontsize=8)
            yield variable, figure


def _draw(axes: Axes, line: pd.DataFrame, variable: str, method: str, fixed: int) -> None:
    color, marker = style(method)
    x, y = line[variable].to_numpy(float), 1000 * line["median"].to_numpy(float)
    spread = [y - 1000 * line["q1"].to_numpy(float), 1000 * line["q3"].to_numpy(float) - y]
    measured, predicted = exponent(line[variable], line["median"]), exponent(line[variable], line["floor_total"])
    label = f"{DISPLAY_NAMES.get(method, method)}, {VARIABLES[variable]} {fixed}: exponent {measured:.2f}"
    axes.errorbar(x, y, spread, color=color, marker=marker, linewidth=1, capsize=2, label=label)
    floor = line["floor_total"].to_numpy(float)
    axes.plot(x, y[-1] * floor / floor[-1], color=color, linestyle=":", label=f"floor's growth: {predicted:.2f}")
    dense = 1000 * line["dense_median"].to_numpy(float)
    known = "dense" in axes.get_legend_handles_labels()[1]
    axes.plot(x, dense, color=DENSE, linestyle="--", linewidth=0.8, label=None if known else "dense")


def _name_ticks(axes: Axes, values: set[int]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.xaxis.set_major_locator(FixedLocator(sorted(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
