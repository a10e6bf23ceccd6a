import math

import pandas as pd
import pytest

from experiments import paper
from experiments.config import ConfigError

PRINTED = paper.read()


def ours(
    method: str, tau: float | None = None, compression: float = math.nan, rank: int | None = None, dense: bool = True
) -> pd.Series:
    figures = {"compression": compression, "compression_low_rank": compression + 0.004}
    return pd.Series({"method": method, "tau": tau, "rank": rank, "output_dense": dense, "lr": 0.2} | figures)


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
    rank_10 = ours("psi", None, 0.9)
    rank_10["compression_low_rank"] = 1 - 42_840 / 1.142e6
    found = paper.match(paper.select(["abc_psi_table1_lr0.01"]), rank_10, "compression")
    assert found is not None and found["params"] == 40_000


def test_of_equal_compressions_the_more_accurate_row_is_the_one_to_beat() -> None:
    found = paper.match(paper.select(["abc_psi_table2_lr0.001"]), ours("psi", None, 0.93), "compression")
    assert found is not None and (found["tau"], found["accuracy"]) == pytest.approx((0.01, 0.9476))


def test_tau_puts_a_fixed_rank_beside_the_row_with_that_rank_where_ranks_are_printed() -> None:
    printed = paper.select(["dlrt_table8_pruning"])
    found = paper.match(printed, ours("bug", None, 0.5, rank=20), "tau")
    assert found is not None and found["params"] == 133_280
    assert paper.match(printed, ours("bug", None, 0.9, rank=15), "tau") is None
    other = paper.match(printed, ours("abc_psi", None, 0.5, rank=20), "tau")
    assert other is not None and other["accuracy"] == found["accuracy"]
    assert paper.match(printed, ours("abc_psi", 0.1, 0.5), "tau") is None


def test_a_network_stands_beside_one_with_the_same_output_layer() -> None:
    printed = paper.select(["dlrt_table7_lenet5", "dlrt_table7_released_logs"])
    factorised = paper.match(printed, ours("aug_bug", 0.15, 0.9, dense=False), "tau")
    dense = paper.match(printed, ours("aug_bug", 0.15, 0.9), "tau")
    assert factorised is not None and factorised["table"] == "Table 7"
    assert dense is not None and dense["table"] == "released logs"
    assert paper.match(paper.select(["dlrt_table5_mlp500"]), ours("aug_bug", 0.15, 0.9, dense=False), "tau") is None


def test_the_first_table_with_the_method_counts() -> None:
    stems = ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"]
    for order in (stems, stems[::-1]):
        found = paper.match(paper.select(order), ours("dense", None, 0.0), "compression")
        assert found is not None and found["preset"] == order[0]


def test_of_two_tables_that_with_our_learning_rate_counts() -> None:
    printed = paper.select(["abc_psi_table1_lr0.01", "abc_psi_table2_lr0.001"])
    for lr, table in ((0.01, "Table 1"), (0.001, "Table 2"), (0.2, "Table 1")):
        run = ours("abc_psi", 0.1, 0.9)
        run["lr"] = lr
        found = paper.match(printed, run, "tau")
        assert found is not None and found["table"] == table


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
