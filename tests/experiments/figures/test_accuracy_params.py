from typing import Any

import pytest
from fake_adapters import tuned
from fake_records import collection_of, record
from matplotlib.figure import Figure

from experiments.figures.accuracy_params import accuracy_params


def runs(method: str, accuracy: float = 0.98, rank: int | None = 3, **fields: Any) -> list[dict[str, Any]]:
    return [tuned(method, seed, accuracy + seed / 1000, rank, **fields) for seed in (0, 1)]


def draw(*records: list[dict[str, Any]]) -> Figure:
    figure = accuracy_params(collection_of([run for part in records for run in part]))
    assert figure is not None
    return figure


def test_points_are_means_over_the_count_of_the_paper() -> None:
    axes = draw(runs("lora")).axes[0]
    (x,), (y,) = axes.containers[0].lines[0].get_data()
    assert (x, y) == (497_664 / 2**20, pytest.approx(98.05)) and axes.get_xscale() == "log"
    (segment,) = axes.containers[0].lines[2][0].get_segments()
    assert segment[1][1] - segment[0][1] == pytest.approx(2 * 0.1 / 2**0.5)
    assert {text.get_text() for text in axes.texts} == {"r = 3"}


def test_full_fine_tuning_and_probing_are_levels() -> None:
    figure = draw(runs("lora"), runs("dense", 0.981, None), runs("probe", 0.975, None))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(names) == {"LoRA", "full fine-tuning", "linear probing"}
    levels = {line.get_label(): line.get_ydata()[0] for line in figure.axes[0].lines if line.get_label()[0] != "_"}
    assert levels == {"full fine-tuning": pytest.approx(98.15), "linear probing": pytest.approx(97.55)}


def test_a_level_that_would_press_the_points_together_is_a_note() -> None:
    axes = draw(runs("lora"), runs("abc_psi", 0.985, 2, tau=0.15), runs("probe", 0.5, None)).axes[0]
    assert axes.get_ylim()[0] > 90
    assert "linear probing: 50.05 %, outside" in [text.get_text() for text in axes.texts]


def test_the_papers_points_are_open_symbols_beside_its_own_backbone() -> None:
    def printed(model: str) -> list[tuple[float, float]]:
        axes = draw(runs("abc_psi", 0.985, 2, tau=0.15, model=model)).axes[0]
        assert ("open symbols" in axes.get_title()) == (model == "vit_b_16")
        return [point for line in axes.lines if line.get_markerfacecolor() == "white" for point in line.get_xydata()]

    (point,) = printed("vit_b_16")
    assert point.tolist() == [0.34, pytest.approx(98.57)]
    assert not printed("vit_small")


def test_a_printed_point_is_drawn_once_for_several_rows_of_a_method() -> None:
    axes = draw(runs("abc_psi", 0.98, 2, tau=0.15), runs("abc_psi", 0.98, 4, tau=0.1)).axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines if line.get_markerfacecolor() == "white"] == [[0.34]]
    assert {text.get_text() for text in axes.texts} == {"τ = 0.15", "τ = 0.1"}


def test_each_data_set_has_a_panel_and_an_axis_of_its_own() -> None:
    figure = draw(runs("lora"), runs("lora", 0.91, data="cifar100"))
    assert [axes.get_title().splitlines()[0] for axes in figure.axes] == ["vit_b_16, cifar10", "vit_b_16, cifar100"]
    assert figure.axes[0].get_ylim()[0] > figure.axes[1].get_ylim()[1]


def test_without_adapters_there_is_no_figure() -> None:
    assert accuracy_params(collection_of(runs("dense", rank=None))) is None
    assert accuracy_params(collection_of([record("abc_psi", 0.1)])) is None
