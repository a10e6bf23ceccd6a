from typing import Any

import numpy as np
import pytest
from fake_records import collection_of, record
from matplotlib.figure import Figure

from experiments.figures.pareto import pareto

SEARCH = {"searched": ["tau", "trainer.lr"]}


def run(tau: float, accuracy: float, rank: int, lr: float = 0.1, **fields: Any) -> dict[str, Any]:
    return record("abc_psi", tau, accuracy=accuracy, rank=rank, trainer={"epochs": 3, "lr": lr}, **fields)


RUNS = [run(0.1, 0.98, 40), run(0.2, 0.97, 20, lr=0.4), run(0.3, 0.95, 22, lr=0.2), run(0.4, 0.9, 5)]


def draw(records: list[dict[str, Any]]) -> Figure:
    figure = pareto(collection_of(records, table=SEARCH))
    assert figure is not None
    return figure


def test_every_run_is_a_point_and_the_front_leaves_out_what_another_beats() -> None:
    axes = draw(RUNS).axes[0]
    points = axes.collections[0].get_offsets()
    assert sorted(points[:, 1]) == [90, 95, 97, 98]
    assert set(np.round(points[:, 0], 9)) == {round(100 * each["final"]["compression"], 9) for each in RUNS}
    assert list(axes.lines[0].get_ydata()) == [98, 97, 90]
    assert axes.lines[0].get_drawstyle() == "steps-pre" and list(np.diff(axes.lines[0].get_xdata()) > 0) == [True] * 2


def test_colour_is_tau_and_size_the_learning_rate() -> None:
    axes, bar = draw(RUNS).axes
    points = axes.collections[0]
    by_accuracy = np.argsort(points.get_offsets()[:, 1])
    assert list(points.get_array()[by_accuracy]) == [0.4, 0.3, 0.2, 0.1]
    small, middle, large, other = points.get_sizes()[by_accuracy]
    assert small == other < middle < large and middle == pytest.approx(
        (small + large) / 2
    )  # 0.1, 0.2, 0.4 in logarithms
    assert bar.get_ylabel() == "τ" and {text.get_text() for text in axes.texts} >= {"τ 0.4, lr 0.1"}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "best of the runs: 3", "lr 0.1", "lr 0.2", "lr 0.4",
    ]  # fmt: skip


def test_the_title_counts_runs_and_names_what_was_trained() -> None:
    figure = draw([*RUNS, run(0.05, 0, 1, status="diverged")])
    assert figure.get_suptitle() == "A title\nabc-PSI, mlp5_500, mnist: n = 5, 1 of them diverged"


def test_validation_data_count_and_test_data_only_without_them() -> None:
    runs = [run(0.1, 0.98, 40), run(0.2, 0.97, 20)]
    for each in runs:
        each["final"]["test_accuracy"] = 0.5
    assert draw(runs).axes[0].get_ylabel() == "validation accuracy in %"
    for each in runs:
        each["final"]["val_accuracy"] = None
    axes = draw(runs).axes[0]
    assert axes.get_ylabel() == "test accuracy in %" and set(axes.collections[0].get_offsets()[:, 1]) == {50}


def test_runs_without_tau_are_grey_and_one_run_is_a_figure() -> None:
    fixed = record("psi", None, rank=10)
    assert len(draw([fixed]).axes) == 1  # no colour bar
    assert len(draw([fixed, *RUNS]).axes[0].collections[0].get_offsets()) == 1
    assert len(draw(RUNS[:1]).axes) == 2


def test_what_is_no_search_or_not_finished_has_no_figure() -> None:
    assert pareto(collection_of(RUNS)) is None
    assert pareto(collection_of([run(0.1, 0, 1, status="diverged")], table=SEARCH)) is None
