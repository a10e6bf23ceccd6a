"""What the figures share: colours and markers of the methods, panels, labels that keep clear, reproducible files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_DPI = 200
GREY, DENSE = "#8c8c8c", "#404040"
# Okabe and Ito's colours, which the common kinds of colour blindness keep apart, and two that are left beside them.
_STYLES = {
    "psi": ("#E69F00", "o"),
    "bc_psi": ("#56B4E9", "s"),
    "abc_psi": ("#D55E00", "^"),
    "bug": ("#009E73", "D"),
    "aug_bug": ("#0072B2", "v"),
    "parallel_bug": ("#CC79A7", "P"),
    "svd_factor": ("#000000", "X"),
    "lora": ("#5D3A9B", "h"),
    "adalora": ("#7A7A00", "p"),
}
_RC: dict[str, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
       "lines.markersize": 5, "svg.hashsalt": "dlrt", "pdf.fonttype": 42}  # fmt: skip
# Dates and versions would change the files from one call to the next.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
# Where a label may stand, in points from its marker: the first place that is free is taken.
_PLACES = [
    (6, 5),
    (6, -11),
    (-6, 5),
    (-6, -11),
    (0, 9),
    (0, -15),
    (9, -3),
    (-9, -3),
    (12, 1),
    (-12, 1),
]


def style(method: str) -> tuple[str, str]:
    """Returns colour and marker of a method; a user's own integrators share a grey star."""
    return _STYLES.get(method, ("#606060", "*"))


def panels(
    rows: int, columns: int, size: tuple[float, float], sharey: Literal["row", "all", "none"] = "row"
) -> tuple[Figure, Any]:
    """Returns a figure of `size` inches and its (rows, columns) array of axes, which share x and y as `sharey` says."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.style.use(_RC)
    return pyplot.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=sharey, layout="constrained")


class Label(NamedTuple):
    """`text` for the point (x, y) with an error bar of ± `spread`."""

    x: float
    y: float
    spread: float
    text: str
    color: str


def label_points(axes: Axes, labels: Sequence[Label]) -> None:
    """Writes each label beside its point, clear of all points and of the labels before it, or leaves it out."""
    from matplotlib.patheffects import withStroke

    axes.figure.canvas.draw()  # fixes the layout, without which no text has a place
    taken = [box for label in labels for box in _boxes(axes, label)]
    for line in axes.lines:
        if line.get_marker() not in ("", "None", "_"):
            taken += [_around(point) for point in axes.transData.transform(line.get_xydata())]
    for label in labels:
        text = axes.annotate(label.text, (label.x, label.y), xytext=(0, 0), textcoords="offset points", fontsize=8)
        text.set(color=label.color, path_effects=[withStroke(linewidth=2, foreground="white")], zorder=4)
        if (box := _place(axes, text, taken)) is None:
            text.remove()
        else:
            taken.append(box)


def _boxes(axes: Axes, label: Label) -> list[Bbox]:
    """Returns what the marker and the error bar cover, in pixels."""
    from matplotlib.transforms import Bbox

    ends = [(label.x, label.y - label.spread), (label.x, label.y), (label.x, label.y + label.spread)]
    low, middle, high = axes.transData.transform(ends)
    return [_around(middle), Bbox([low - 2, high + 2])]


def _around(point: Any) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox([point - 6, point + 6])


def _place(axes: Axes, text: Annotation, taken: Sequence[Bbox]) -> Bbox | None:
    for place in _PLACES:
        text.set(position=place, horizontalalignment=_alignment(place[0]))
        box = text.get_window_extent()
        if _inside(axes, box) and not box.count_overlaps(taken):
            return box
    return None


def _inside(axes: Axes, box: Bbox) -> bool:
    return axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)


def _alignment(shift: int) -> str:
    return "center" if shift == 0 else "left" if shift > 0 else "right"


def save(figure: Figure, stem: Path) -> None:
    """Writes the figure to `stem`.png, .pdf and .svg, the same bytes for the same figure, and closes it."""
    from matplotlib import pyplot

    for suffix, metadata in _METADATA.items():
        figure.savefig(f"{stem}.{suffix}", dpi=_DPI, metadata=metadata)
    pyplot.close(figure)


def pixels(figure: Figure) -> Any:
    """Returns the figure as an array of bytes, (height, width, RGBA), and closes it."""
    import numpy as np
    from matplotlib import pyplot

    figure.set_dpi(_DPI)
    figure.canvas.draw()
    picture = np.array(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    pyplot.close(figure)
    return picture
