"""Exponents of power laws."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.benchmark import growth


def grid(time: str = "rank**2 * width") -> pd.DataFrame:
    points = [(rank, 64) for rank in (4, 8, 16, 32)] + [(8, width) for width in (16, 32, 128)]
    rows = pd.DataFrame(points, columns=["rank", "width"]).assign(model="mlp", precision="fp32", batch=8)
    rows = rows.assign(median=1e-6 * rows.eval(time), floor_total=rows["rank"] ** 1.5 * rows["width"])
    rows = rows.assign(q1=0.9 * rows["median"], q3=1.1 * rows["median"], dense_median=1.0, integrator="aug_bug")
    rows["rank"] = rows["rank"].map(str)
    return rows


def test_the_exponents_of_both_lines_are_fitted() -> None:
    found = growth.fits(grid()).set_index("against")
    assert list(found.index) == ["rank", "width"] and list(found["points"]) == [4, 4]
    assert list(found["measured"]) == pytest.approx([2, 1]) and list(found["predicted"]) == pytest.approx([1.5, 1])
    assert list(found["fixed"]) == ["width 64", "rank 8"]


def test_a_constant_cost_shows_less_in_the_upper_half() -> None:
    found = growth.fits(grid("width * (rank**2 + 500)")).set_index("against")
    assert found.loc["rank", "measured"] < found.loc["rank", "measured_upper"] < 2


def test_two_points_are_no_line() -> None:
    few = grid().iloc[:2]
    assert growth.fits(few).empty and growth.tables(few) == [] and list(growth.figures(few)) == []


def test_a_figure_per_variable_names_both_exponents() -> None:
    drawn = dict(growth.figures(grid()))
    assert list(drawn) == ["rank", "width"]
    labels = [text.get_text() for text in drawn["rank"].legends[0].get_texts()]
    assert labels == ["floor's growth: 1.50", "dense", "aug. BUG (DLRT), width 64: exponent 2.00"]
