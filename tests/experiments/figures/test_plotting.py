from matplotlib import pyplot

from experiments.aggregate import DISPLAY_NAMES
from experiments.figures.plotting import Label, label_points, panels, style


def test_every_low_rank_method_has_its_own_colour_and_marker() -> None:
    styles = [style(method) for method in DISPLAY_NAMES if method != "dense"]
    assert len({color for color, _ in styles}) == len({marker for _, marker in styles}) == len(styles) == 9
    assert style("my_integrator") not in styles


def test_a_label_without_room_is_left_out() -> None:
    figure, grid = panels(1, 1, (3, 2))
    axes = grid[0, 0]
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label_points(axes, [Label(0.5, 0.5, 0.0, "τ = 0.1", "black")] * 40)
    assert 1 < len(axes.texts) < 40
    pyplot.close(figure)
