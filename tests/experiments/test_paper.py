"""The printed figures are checked against the papers' ranks and percentages, the matching against hand-made rows."""

import math

import pandas as pd
import pytest

from experiments import paper
from experiments.config import ConfigError

PRINTED = paper.read()
WIDTHS = {
    "dlrt_table5_mlp500": [(500, 784), (500, 500), (500, 500), (500, 500)],
    "dlrt_table6_mlp784": [(784, 784)] * 4,
    "dlrt_table8_pruning": [(784, 784)] * 4,
}
LENET5 = [(20, 25), (50, 500), (500, 800), (10, 500)]


def row(stem: str, method: str, tau: float | None = None) -> pd.Series:
    rows = PRINTED[(PRINTED["preset"] == stem) & (PRINTED["method"] == method)]
    return rows.iloc[0] if tau is None else rows[rows["tau"] == tau].iloc[0]


def ours(method: str, tau: float | None = None, compression: float = math.nan) -> pd.Series:
    return pd.Series(
        {"method": method, "tau": tau, "compression": compression, "compression_low_rank": compression + 0.004}
    )


@pytest.mark.parametrize("stem", WIDTHS)
def test_printed_ranks_give_the_printed_parameters(stem: str) -> None:
    rows = PRINTED[(PRINTED["preset"] == stem) & (PRINTED["method"] != "dense")]
    for _, printed in rows.iterrows():
        low_rank = sum(r * (m + n) for r, (m, n) in zip(printed["ranks"], WIDTHS[stem], strict=False))
        assert printed["params"] == low_rank + 10 * WIDTHS[stem][-1][0]


def test_lenet5_counts_all_four_layers() -> None:
    printed = row("dlrt_table7_lenet5", "aug_bug", 0.15)
    assert printed["params"] == sum(r * (m + n) for r, (m, n) in zip((13, 31, 9, 10), LENET5, strict=True))
    assert printed["compression"] == pytest.approx(1 - printed["params"] / sum(m * n for m, n in LENET5))


@pytest.mark.parametrize("stem", [*WIDTHS, "dlrt_table7_lenet5"])
def test_compression_is_the_printed_one_but_for_rounding_and_one_misprint(stem: str) -> None:
    table = pd.read_csv(f"{paper.__path__[0]}/{stem}.csv")
    rows = PRINTED[PRINTED["preset"] == stem]
    off = [abs(100 * a - b) for a, b in zip(rows["compression"], table["eval_cr"], strict=True)]
    misprints = [float(difference) for difference in off if difference > 0.05]
    assert misprints == (pytest.approx([0.303], abs=0.01) if stem == "dlrt_table6_mlp784" else [])


def test_each_printed_figure_is_a_fraction_of_the_right_row() -> None:
    assert row("dlrt_table5_mlp500", "aug_bug", 0.17)[["accuracy", "std"]].tolist() == pytest.approx([0.969, 0.0045])
    assert row("dlrt_table8_pruning", "bug")["accuracy"] == pytest.approx(0.9816)
    psi = row("abc_psi_table1_lr0.01", "psi", 0.02)
    assert (psi["accuracy"], psi["params"]) == pytest.approx((0.9665, 110_000))
    assert psi["compression"] == pytest.approx(1 - 0.11 / 1.142)
    assert math.isnan(row("abc_psi_table1_lr0.01", "psi", 0.005)["accuracy"])


def test_the_dense_networks_are_rows_too() -> None:
    dense = PRINTED[PRINTED["method"] == "dense"].set_index("preset")["accuracy"]
    assert dense["abc_psi_table1_lr0.01"] == dense["abc_psi_table2_lr0.001"] == 0.9454
    assert dense["dlrt_table6_mlp784"] == pytest.approx(0.9853)
    assert "dlrt_table7_lenet5" not in dense


def test_tau_finds_the_row_with_that_tau_or_none() -> None:
    printed = paper.select(["dlrt_table5_mlp500"])
    found = paper.match(printed, ours("aug_bug", 0.1 + 0.01, 0.5), "tau")
    assert found is not None and found["params"] == 154_668
    assert paper.match(printed, ours("aug_bug", 0.1, 0.5), "tau") is None
    assert paper.match(printed, ours("psi", 0.11, 0.5), "tau") is None


def test_tau_puts_a_fixed_rank_beside_the_nearest_row_even_if_its_accuracy_is_blank() -> None:
    printed = paper.select(["abc_psi_table1_lr0.01"])
    found = paper.match(printed, ours("psi", None, 0.86), "tau")
    assert found is not None and found["tau"] == 0.005 and math.isnan(found["accuracy"])


@pytest.mark.parametrize(
    ("compression", "tau"),
    [(0.9, 0.13), (0.93, 0.17), (0.2, 0.03), (1 - 101_828 / 1_147_000, 0.15)],
    ids=["highest not above", "above all", "below all", "equal"],
)
def test_compression_finds_the_point_to_beat(compression: float, tau: float) -> None:
    found = paper.match(paper.select(["dlrt_table5_mlp500"]), ours("aug_bug", 0.1, compression), "compression")
    assert found is not None and found["tau"] == tau


def test_compression_counts_as_the_paper_does_and_to_its_digits() -> None:
    rank_10 = pd.Series(
        {"method": "psi", "tau": None, "compression": 0.9, "compression_low_rank": 1 - 42_840 / 1.142e6}
    )
    found = paper.match(paper.select(["abc_psi_table1_lr0.01"]), rank_10, "compression")
    assert found is not None and found["params"] == 40_000


def test_of_equal_compressions_the_more_accurate_row_is_the_one_to_beat() -> None:
    found = paper.match(paper.select(["abc_psi_table2_lr0.001"]), ours("psi", None, 0.93), "compression")
    assert found is not None and (found["tau"], found["accuracy"]) == pytest.approx((0.01, 0.9476))


def test_the_first_table_with_the_method_counts() -> None:
    stems = ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"]
    for order in (stems, stems[::-1]):
        found = paper.match(paper.select(order), ours("dense", None, 0.0), "compression")
        assert found is not None and found["preset"] == order[0]


def test_beside_gives_the_difference_and_nothing_where_nothing_is_printed() -> None:
    frame = pd.DataFrame([ours("aug_bug", 0.15, 0.9), ours("parallel_bug", 0.15, 0.9)]).assign(accuracy=0.98)
    both = paper.beside(frame, {"paper": ["dlrt_table5_mlp500"], "match": "tau"})
    assert both["difference"].iloc[0] == pytest.approx(0.98 - 0.9722)
    assert both.loc[1, ["printed_accuracy", "difference"]].isna().all()


def test_a_run_without_figures_has_no_compression_to_match() -> None:
    assert paper.match(paper.select(["dlrt_table8_pruning"]), ours("bug"), "compression") is None


def test_a_wrong_section_is_named() -> None:
    with pytest.raises(ConfigError, match="got 'table9'"):
        paper.select(["table9"])
    with pytest.raises(ConfigError, match="got 'rank'"):
        paper.match(PRINTED, ours("psi"), "rank")
