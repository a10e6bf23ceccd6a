from itertools import combinations
from typing import Any

import pytest
from fake_records import collection_of, record
from matplotlib.axes import Axes

from experiments.figures.accuracy_compression import accuracy_compression

PAPER = {"paper": ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"]}


def runs(method: str, tau: float | None, rank: int | None, accuracy: float, **extra: Any) -> list[dict[str, Any]]:
    return [record(method, tau, seed, accuracy=accuracy + seed / 1000, rank=rank, **extra) for seed in (0, 1)]


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
    assert {text.get_text() for text in axes.texts} == {"τ = 0.05", "τ = 0.1", "τ = 0.15"}
    assert len(boxes) >= 5
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert not any(box.contains(*marker) for box in boxes for marker in markers)


def test_the_papers_points_are_open_symbols_and_its_dense_network_a_level() -> None:
    axes = draw(CROWDED, table=PAPER)
    ours = ["abc-PSI", "aug. BUG (DLRT)", "PSI"]
    assert set(legend(axes)) == {*ours, "bc-PSI, printed", "dense", "dense, printed"}
    assert axes.get_title() == "open symbols: DLRT 2022, Table 5 (dotted); abc-PSI 2025, Table 1 (dashdot)"
    assert axes.figure.legends[0].get_title().get_text().endswith("abc-PSI 2025 counts low-rank layers only")
    printed = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert {line.get_color() for line in printed} > {line.lines[0].get_color() for line in axes.containers}


def test_beside_abc_psis_tables_only_compression_is_counted_as_there() -> None:
    axes = draw(runs("abc_psi", 0.1, 10, 0.95), table={"paper": ["abc_psi_table1_lr0.01"]})
    assert axes.get_xlabel() == "compression in % of the low-rank layers"
    assert axes.containers[0].lines[0].get_xdata()[0] == pytest.approx(100 * (1 - 42_840 / 1_142_000))


def test_printed_points_far_below_ours_are_counted_not_drawn() -> None:
    axes = draw(runs("abc_psi", 0.1, 20, 0.99), table={"paper": ["abc_psi_table1_lr0.01"]})
    drawn = {
        line.get_label(): line.get_ydata().tolist() for line in axes.lines if line.get_markerfacecolor() == "white"
    }
    psi = [95.71, 96.206, 96.472, 96.648, 96.65, 96.588]
    assert drawn["PSI, printed"] == pytest.approx(psi) and len(drawn) == 2  # abc-PSI's own line has the legend's name
    assert axes.figure.legends[0].get_title().get_text() == "printed points below the axis: 3"  # all those of bc-PSI
    left, right = axes.get_xlim()
    assert all(left < x < right for line in axes.lines[-2:] for x in line.get_xdata())


def test_the_axis_is_logarithmic_in_what_remains() -> None:
    axes = draw(CROWDED)
    places = axes.transData.transform([(90, 98), (99, 98), (99.9, 98)])[:, 0]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])


def test_what_else_varies_makes_panels_with_the_printed_points_of_that_set_up() -> None:
    def at(lr: float, accuracy: float) -> list[dict[str, Any]]:
        return runs("abc_psi", 0.1, 20, accuracy, trainer={"epochs": 3, "lr": lr})

    figure = accuracy_compression(
        collection_of(
            [*at(0.01, 0.97), *at(0.001, 0.94), *runs("dense", None, None, 0.98)],
            table={"paper": ["abc_psi_table1_lr0.01", "abc_psi_table2_lr0.001"]},
        )
    )
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == [
        "lr: 0.01\nopen symbols: abc-PSI 2025, Table 1",
        "lr: 0.001\nopen symbols: abc-PSI 2025, Table 2",
    ]
    ours = [axes.containers[0].lines[0].get_ydata().tolist() for axes in figure.axes]
    assert ours == [pytest.approx([97.05]), pytest.approx([94.05])]
    assert all("dense" in axes.get_legend_handles_labels()[1] for axes in figure.axes)


def test_a_printed_network_stands_beside_one_with_the_same_output_layer() -> None:
    models = [{"name": "lenet5", "skip": skip} for skip in ([], ["output"])]
    records = [run for model in models for run in runs("aug_bug", 0.1, 20, 0.95, model=model)]
    figure = accuracy_compression(
        collection_of(records, table={"paper": ["dlrt_table7_lenet5", "dlrt_table7_released_logs"]})
    )
    assert figure is not None
    assert [axes.get_title().splitlines()[-1] for axes in figure.axes] == [
        "open symbols: DLRT 2022, Table 7",
        "open symbols: DLRT 2022, released logs",
    ]


@pytest.mark.parametrize(("before", "drawn"), [(0.9695, True), (0.5, False)])
def test_truncated_networks_are_drawn_where_they_do_not_squash_the_axis(before: float, drawn: bool) -> None:
    records = [run | {"start": {"test_accuracy": before}} for run in runs("bug", None, 20, 0.97)]
    axes = draw(records)
    assert ("truncated, not trained" in legend(axes)) is drawn
    assert axes.get_ylim()[0] > 90


def test_fixed_ranks_are_labelled_where_they_are_few_or_alone() -> None:
    def fixed(ranks: tuple[int, ...]) -> list[dict[str, Any]]:
        return [record("psi", rank=r) | {"config": record("psi")["config"] | {"rank": r}} for r in ranks]

    assert {text.get_text() for text in draw(fixed((10, 20, 40))).texts} == {"r = 10", "r = 20", "r = 40"}
    assert {text.get_text() for text in draw([*fixed((10, 20, 40)), *runs("abc_psi", 0.1, 15, 0.98)]).texts} == {
        "τ = 0.1"
    }


def test_without_a_finished_low_rank_run_there_is_no_figure() -> None:
    records = [record("dense", rank=None), record("psi", status="diverged")]
    assert accuracy_compression(collection_of(records)) is None
