from itertools import combinations
from typing import Any

import pytest
from fake_records import collection_of, record
from matplotlib.axes import Axes

from experiments.figures.accuracy_compression import accuracy_compression

PAPER = {"paper": ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"]}


def runs(method: str, tau: float | None, rank: int | None, accuracy: float) -> list[dict[str, Any]]:
    return [record(method, tau, seed, accuracy=accuracy + seed / 1000, rank=rank) for seed in (0, 1)]


CROWDED = [
    *(
        run
        for tau, rank in ((0.05, 40), (0.1, 21), (0.15, 15))
        for run in runs("abc_psi", tau, rank, 0.97 + rank / 5e3)
    ),
    *(
        run
        for tau, rank in ((0.05, 41), (0.1, 20), (0.15, 14))
        for run in runs("aug_bug", tau, rank, 0.97 + rank / 5e3)
    ),
    *runs("psi", None, 20, 0.974),
    *runs("dense", None, None, 0.983),
]


def draw(records: list[dict[str, Any]], **preset: Any) -> Axes:
    figure = accuracy_compression(collection_of(records, **preset))
    assert figure is not None
    return figure.axes[0]


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.figure.legends[0].get_texts()]


def test_points_are_percentages_of_the_records_figures() -> None:
    axes = draw(runs("aug_bug", 0.1, 20, 0.97))
    (x,), (y,) = axes.containers[0].lines[0].get_data()
    assert (x, y) == (pytest.approx(100 * (1 - 90_680 / 1_147_000)), pytest.approx(97.05))
    (segment,) = axes.containers[0].lines[2][0].get_segments()
    assert segment[1][1] - segment[0][1] == pytest.approx(2 * 0.1 / 2**0.5)
    assert axes.get_xlabel() == "compression in %" and axes.get_ylabel() == "test accuracy in %"


def test_labels_cover_neither_points_nor_each_other() -> None:
    axes = draw(CROWDED, table=PAPER)
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    markers = [point for line in axes.containers for point in axes.transData.transform(line.lines[0].get_xydata())]
    assert [text.get_text() for text in axes.texts].count("τ = 0.1") == 2
    assert len(boxes) == 7
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert not any(box.contains(*marker) for box in boxes for marker in markers)


def test_ours_come_first_then_the_papers_points_and_how_they_count() -> None:
    names = legend(draw(CROWDED, table=PAPER))
    assert names[:4] == ["abc-PSI", "aug. BUG (DLRT)", "PSI", "dense"]
    assert {"DLRT 2022: aug. BUG (DLRT)", "abc-PSI 2025: abc-PSI", "(abc-PSI 2025 counts\nlow-rank layers only)"} < {
        *names
    }


def test_beside_abc_psis_tables_only_compression_is_counted_as_there() -> None:
    axes = draw(runs("abc_psi", 0.1, 10, 0.95), table={"paper": ["abc_psi_table1_lr0.01"]})
    assert axes.get_xlabel() == "compression in % of the low-rank layers"
    assert axes.containers[0].lines[0].get_xdata()[0] == pytest.approx(100 * (1 - 42_840 / 1_142_000))


def test_printed_points_far_from_ours_are_counted_not_drawn() -> None:
    axes = draw(runs("aug_bug", 0.1, 20, 0.97), table={"paper": ["dlrt_table5_mlp500"]})
    printed = next(line for line in axes.lines if line.get_label() == "DLRT 2022: aug. BUG (DLRT)")
    outside = 8 - len(printed.get_xdata())
    assert outside > 0 and f"(printed points outside: {outside})" in legend(axes)
    low, high = axes.get_xlim()
    assert all(low < x < high for x in printed.get_xdata())


def test_without_a_finished_low_rank_run_there_is_no_figure() -> None:
    records = [record("dense", rank=None), record("psi", status="diverged")]
    assert accuracy_compression(collection_of(records)) is None
