from typing import Any

import pytest
from fake_records import collection_of, record
from fake_timings import SECTION, timed
from matplotlib.figure import Figure

from experiments.figures.time_rank import time_rank


def draw(*records: dict[str, Any]) -> Figure | None:
    return time_rank(collection_of(records, table=SECTION))


def test_ratios_over_ranks_stand_beside_the_papers() -> None:
    figure = draw(timed(None, 2.0), timed(40, 0.2), timed(320, 3.0), timed(5, 0.1))
    assert figure is not None
    (axes,) = figure.axes
    lines: dict[Any, Any] = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert lines["aug. BUG (DLRT)"].tolist() == [[5, 0.05], [40, 0.1], [320, 1.5]]
    assert lines["DLRT 2022"][:, 0].tolist() == [5, 10, 20, 40, 80, 160, 320]
    assert lines["DLRT 2022"][-1, 1] == pytest.approx(0.855 / 0.32)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylabel() == "time of one training step / dense"


def test_without_a_timed_low_rank_net_there_is_no_figure() -> None:
    assert draw(timed(None, 2.0)) is None
    assert draw(timed(40, 0.2) | {"status": "failed"}) is None
    assert time_rank(collection_of([record("aug_bug", 0.1)], table={"paper": ["dlrt_table5_mlp500"]})) is None
