from itertools import pairwise
from typing import Any

import pytest
from fake_adapters import PLACES, layers, tuned
from fake_records import collection_of, record
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.rank_heatmap import rank_heatmap, rank_heatmap_of, ranks_of

SMALL = layers(blocks=2, width=16)


def run(method: str, seed: int = 0, rank: int = 3, **fields: Any) -> dict[str, Any]:
    return tuned(method, seed, rank=rank, shapes=SMALL, **({"tau": 0.1} | fields))


def draw(records: list[dict[str, Any]]) -> tuple[Figure, list[Axes]]:
    """The figure and its panels, without the bar of colours."""
    figure = rank_heatmap(collection_of(records))
    assert figure is not None
    return figure, [axes for axes in figure.axes[:-1] if axes.axison]


def cells(axes: Axes) -> list[list[float]]:
    return axes.collections[0].get_array().tolist()  # type: ignore[no-any-return]


def test_rows_are_layers_in_depth_order_and_columns_epochs_from_the_start_rank_on() -> None:
    one = run("abc_psi")
    for place, layer in enumerate(one["history"][0]["ranks"]):
        one["history"][1]["ranks"][layer] = place
    _, (axes,) = draw([one])
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f"{block} {place}" for block in (0, 1) for place in ("q", "k", "v", "out", "mlp 1", "mlp 2")
    ]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2", "3", "4", "5"]
    assert axes.get_ylim() == (len(SMALL), 0)  # the first layer on top
    assert cells(axes) == [[16, 11, place, 7, 5, 3] for place in range(len(SMALL))]  # 32 is above a layer's limit


def test_cells_are_means_over_seeds_and_numbered() -> None:
    _, (axes,) = draw([run("abc_psi", 0, rank=2), run("abc_psi", 1, rank=5)])
    assert cells(axes)[0] == [16, 11.5, 9.5, 7.5, 5.5, 3.5]
    assert [text.get_text() for text in axes.texts[:6]] == ["16", "12", "10", "8", "6", "4"]
    assert axes.get_title() == "abc-PSI\nτ = 0.1, lr 0.001, n = 2"


def test_a_run_that_diverged_early_counts_while_it_lasted() -> None:
    diverged = run("abc_psi", 1, rank=5) | {"status": "diverged", "final": None}
    del diverged["history"][2:]
    _, (axes,) = draw([run("abc_psi", 0, rank=3), diverged])
    assert cells(axes)[0] == [(16 + 32) / 2, 12, 10, 7, 5, 3]


def test_panels_share_their_colours_and_fixed_ranks_have_none() -> None:
    adaptive = [run("abc_psi"), run("adalora", tau=None, budget=36), run("aug_bug", tau=None, budget=36)]
    fixed = [run("psi", tau=None), run("lora", tau=None), tuned("dense", rank=None), tuned("probe", rank=None)]
    figure, panels = draw([*adaptive, *fixed])
    titles = [
        "abc-PSI\nτ = 0.1, lr 0.001, n = 1",
        "AdaLoRA\nbudget 36, lr 0.001, n = 1",
        "aug. BUG (DLRT)\nbudget 36, lr 0.001, n = 1",
    ]
    assert [axes.get_title() for axes in panels] == titles
    assert len({axes.collections[0].norm for axes in panels}) == 1
    assert figure.axes[-1].get_ylabel() == "rank" and panels[0].collections[0].norm.vmax == 16


def test_data_sets_have_rows_of_their_own_and_other_lengths_leave_gaps() -> None:
    records = [run("abc_psi"), run("aug_bug"), run("abc_psi", data="cifar100", epochs=2)]
    figure, panels = draw(records)
    assert [axes.get_ylabel() for axes in panels] == ["vit_b_16, cifar10", "", "vit_b_16, cifar100"]
    assert len(figure.axes) == 4 + 1
    assert cells(panels[2])[0][:3] == [16, 5, 3] and panels[2].collections[0].get_array()[0, 3:].mask.all()
    assert [text.get_text() for text in panels[2].texts[:4]] == ["16", "5", "3", "16"]


def test_a_vision_transformer_has_room_for_its_72_names() -> None:
    figure, (axes,) = draw([tuned("abc_psi", tau=0.1)])
    figure.canvas.draw()
    names = axes.get_yticklabels()
    boxes = [name.get_window_extent() for name in names]
    assert len(names) == 12 * len(PLACES) == 72
    assert all(above.y0 >= below.y1 - 1 for above, below in pairwise(boxes))


def test_long_trainings_are_named_but_not_numbered() -> None:
    figure, (axes,) = draw([run("abc_psi", epochs=100)])
    assert not axes.texts and len(axes.get_xticklabels()) <= 13 and figure.get_size_inches()[0] < 8


def test_the_map_of_one_run() -> None:
    figure = rank_heatmap_of(record("abc_psi", 0.1))
    assert figure is not None and cells(figure.axes[0]) == [[120, 80, 40, 20]] * 4
    assert rank_heatmap_of(record("psi")) is None and rank_heatmap_of(run("abc_psi") | {"history": []}) is None


def test_without_a_run_that_adapts_there_is_no_figure() -> None:
    assert rank_heatmap(collection_of([run("lora", tau=None), tuned("dense", rank=None)])) is None


@pytest.mark.parametrize("final", [None, {"shapes": {}}])
def test_a_start_rank_is_that_of_the_config_where_shapes_are_unknown(final: dict[str, Any] | None) -> None:
    assert ranks_of(run("abc_psi") | {"final": final})[0].tolist() == [32] * 12
