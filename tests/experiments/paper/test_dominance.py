import math
from typing import Any

import pandas as pd
import pytest
from fake_records import record
from scipy import stats

from experiments import paper
from experiments.aggregate import aggregate
from experiments.paper.dominance import p_value

TABLE_5 = paper.select(["dlrt_table5_mlp500"])
SEEDS = (-0.001, 0.0, 0.001)


def runs(method: str, tau: float | None, rank: int | None, accuracy: float, **extra: Any) -> list[dict[str, Any]]:
    return [record(method, tau, s, accuracy=accuracy + shift, rank=rank, **extra) for s, shift in enumerate(SEEDS)]


def verdict(rows: pd.DataFrame, **where: Any) -> pd.Series:
    for key, value in where.items():
        rows = rows[rows[key] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_printed_row_is_dominated_by_the_best_row_at_its_compression_or_more() -> None:
    ours = aggregate(
        [*runs("aug_bug", 0.1, 20, 0.98), *runs("aug_bug", 0.2, 10, 0.97), *runs("abc_psi", 0.1, 20, 0.981)]
    )
    rows = paper.dominated(TABLE_5, ours)
    row = verdict(rows, tau=0.17)  # printed: 96.90 ± 0.45 at 92.44 %; rank 20 has 92.09 %
    assert row[["our_method", "our_tau", "our_n"]].tolist() == ["aug_bug", 0.2, 3]
    assert row["dominated"] and row["difference"] == pytest.approx(0.001)
    row = verdict(rows, tau=0.15)  # 97.22 at 91.12 %
    assert row[["our_method", "our_tau"]].tolist() == ["abc_psi", 0.1]
    row = verdict(rows, tau=0.11)  # 98.11 at 86.52 %
    assert not row["dominated"] and row["difference"] == pytest.approx(-0.0001)


def test_the_same_mean_does_not_dominate() -> None:
    assert not verdict(paper.dominated(TABLE_5, aggregate([record("aug_bug", 0.1, accuracy=0.969, rank=5)])), tau=0.17)[
        "dominated"
    ]


def test_exactly_the_printed_compression_counts() -> None:
    rows = paper.dominated(paper.select(["abc_psi_table1_lr0.01"]), aggregate(runs("abc_psi", 0.2, 10, 0.96)))
    row = verdict(rows, method="psi", tau=0.2)  # 0.04 M printed, 42,840 ours
    assert row["our_method"] == "abc_psi" and row["dominated"]
    larger = aggregate(runs("abc_psi", 0.2, 11, 0.96))  # 47,124
    assert not verdict(paper.dominated(paper.select(["abc_psi_table1_lr0.01"]), larger), method="psi", tau=0.2)[
        "dominated"
    ]


def test_only_rank_adaptive_rows_compete_where_there_are_any() -> None:
    adaptive, fixed = runs("aug_bug", 0.1, 10, 0.96), runs("bug", None, 10, 0.99)
    assert verdict(paper.dominated(TABLE_5, aggregate([*adaptive, *fixed])), tau=0.17)["our_method"] == "aug_bug"
    assert verdict(paper.dominated(TABLE_5, aggregate(fixed)), tau=0.17)["our_method"] == "bug"


def test_for_the_printed_dense_network_our_dense_one_competes_too() -> None:
    ours = aggregate([*runs("aug_bug", 0.1, 10, 0.98), *runs("dense", None, None, 0.99)])
    rows = paper.dominated(TABLE_5, ours)
    assert verdict(rows, method="dense")["our_method"] == "dense"
    assert (rows.loc[rows["method"] != "dense", "our_method"] == "aug_bug").all()


def test_networks_compete_with_those_with_the_same_output_layer() -> None:
    factorised = {"name": "lenet5", "skip": []}
    ours = aggregate([*runs("aug_bug", 0.1, 2, 0.99), *runs("aug_bug", 0.1, 2, 0.97, model=factorised)])
    rows = paper.dominated(paper.select(["dlrt_table7_lenet5", "dlrt_table7_released_logs"]), ours)
    assert verdict(rows, table="released logs", tau=0.11)["our_accuracy"] == pytest.approx(0.99)
    assert verdict(rows, table="Table 7", tau=0.11)["our_accuracy"] == pytest.approx(0.97)


def test_blank_printed_rows_are_no_rows_and_two_tables_dense_network_is_one() -> None:
    printed = paper.select(["abc_psi_table1_lr0.01", "abc_psi_table2_lr0.001"])
    rows = paper.dominated(printed, aggregate(runs("abc_psi", 0.2, 10, 0.96)))
    assert len(rows) == 7 + 6 + 3 + 3 * 9 + 1


def test_without_a_row_of_that_compression_nothing_is_dominated() -> None:
    row = verdict(paper.dominated(TABLE_5, aggregate([record("aug_bug", 0.1, status="diverged")])), tau=0.17)
    assert not row["dominated"] and math.isnan(row["p"]) and math.isnan(row["difference"])


def test_p_is_welchs() -> None:
    ours, theirs = [0.981, 0.979, 0.984, 0.980, 0.982], [0.975, 0.982, 0.978, 0.981, 0.974]
    expected = stats.ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue
    a, b = pd.Series(ours), pd.Series(theirs)
    assert p_value(a.mean(), a.std(), 5, b.mean(), b.std()) == pytest.approx(expected)


def test_p_against_a_figure_without_deviation_is_the_one_sample_tests() -> None:
    ours = pd.Series([0.981, 0.979, 0.984])
    expected = stats.ttest_1samp(ours, 0.98, alternative="greater").pvalue
    assert p_value(ours.mean(), ours.std(), 3, 0.98, math.nan) == pytest.approx(expected)


def test_one_run_and_runs_without_spread_have_no_p() -> None:
    assert math.isnan(p_value(0.98, math.nan, 1, 0.97, 0.001))
    assert math.isnan(p_value(0.98, 0.0, 5, 0.97, math.nan))


def test_goals_are_reached_by_the_best_row_of_the_size() -> None:
    ours = aggregate(
        [*runs("aug_bug", 0.1, 20, 0.98), *runs("aug_bug", 0.2, 10, 0.97), *runs("dense", None, None, 0.99)]
    )
    goals: list[dict[str, float]] = [
        {"accuracy": 98.0, "compression": 92}, {"accuracy": 97.5, "compression": 92.1},
        {"accuracy": 97, "compression": 99}, {"accuracy": 97, "params": 47_840}, {"accuracy": 97, "params": 47_839},
    ]  # fmt: skip
    rows = paper.reached(goals, ours, paper.DLRT)
    assert rows["reached"].tolist() == [True, False, False, True, False]
    assert rows["our_tau"].tolist()[:2] == [0.1, 0.2] and math.isnan(rows["our_n"][2])
    low_rank_only = paper.reached([{"accuracy": 97, "params": 42_840}], ours, paper.ABC_PSI)
    assert low_rank_only["reached"].tolist() == [True]
