from typing import Any

from fake_records import collection_of, record
from matplotlib.figure import Figure

from experiments.figures.rank_evolution import rank_evolution


def draw(records: list[dict[str, Any]]) -> Figure:
    figure = rank_evolution(collection_of(records))
    assert figure is not None
    return figure


def test_a_row_per_adaptive_integrator_and_a_column_per_layer() -> None:
    figure = draw([record("abc_psi", 0.1), record("aug_bug", 0.1), record("psi")])
    assert [axes.get_title() for axes in figure.axes[:4]] == ["layer 0", "layer 2", "layer 4", "layer 6"]
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == [
        "abc-PSI\nrank",
        "aug. BUG (DLRT)\nrank",
    ]


def test_lines_are_mean_ranks_from_the_start_rank_on() -> None:
    axes = draw([record("abc_psi", 0.1, 0, rank=20), record("abc_psi", 0.1, 1, rank=30)]).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, 120], [1, 85], [2, 45], [3, 25]]


def test_a_run_that_diverged_early_shows_its_epochs() -> None:
    diverged = record("abc_psi", 0.1, 1, status="diverged", rank=20)
    del diverged["history"][1:]
    axes = draw([record("abc_psi", 0.1, 0, rank=30), diverged]).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[0, 120], [1, 85], [2, 50], [3, 30]]


def test_each_tau_has_its_colour_and_dashes_and_one_legend_entry() -> None:
    figure = draw([record(method, tau) for method in ("abc_psi", "aug_bug") for tau in (0.2, 0.05, 0.1)])
    lines = figure.axes[0].lines
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["τ = 0.05", "τ = 0.1", "τ = 0.2"]


def test_variants_have_rows_of_their_own_and_a_dense_layer_says_so() -> None:
    factorised = record("aug_bug", 0.1, model={"name": "mlp5_500", "skip": []})
    for ranks in (row["ranks"] for row in factorised["history"]):
        ranks["8"] = 10
    figure = draw([record("aug_bug", 0.1), factorised])
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == [f"aug. BUG (DLRT)\ndense layers: {which}\nrank" for which in ("output", "none")]
    assert [[len(axes.lines) for axes in figure.axes[i : i + 5]] for i in (0, 5)] == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert figure.axes[4].texts[0].get_text() == "dense" and not figure.axes[9].texts


def test_many_layers_share_a_column() -> None:
    run = record("abc_psi", 0.1)
    layers = {f"blocks.{i}": 8 for i in range(12)}
    run["history"] = [{"epoch": 1, "ranks": layers}]
    run["final"] |= {"ranks": layers, "shapes": {layer: [16, 16] for layer in layers}}
    (axes,) = draw([run]).axes
    assert axes.get_title() == "all 12 layers" and len(axes.lines) == 12
    assert axes.lines[0].get_ydata().tolist() == [16, 8]


def test_without_an_adaptive_run_there_is_no_figure() -> None:
    assert rank_evolution(collection_of([record("psi"), record("dense", rank=None)])) is None
