import math
import statistics

import pytest
from fake_records import LAYERS, config, record

from experiments.aggregate import aggregate


def test_statistics_over_seeds_are_those_of_the_finished_runs() -> None:
    accuracies, ranks = [0.97, 0.98, 0.975], [20, 22, 24]
    records = [
        record("abc_psi", 0.1, s, accuracy=a, rank=r) for s, (a, r) in enumerate(zip(accuracies, ranks, strict=True))
    ]
    records.append(record("abc_psi", 0.1, 3, status="diverged"))

    rows = aggregate(records)

    assert len(rows) == 1
    row = rows.iloc[0]
    assert row[["n", "diverged", "failed", "missing"]].tolist() == [3, 1, 0, 0]
    assert row["accuracy"] == pytest.approx(statistics.fmean(accuracies))
    assert row["accuracy_std"] == pytest.approx(statistics.stdev(accuracies))
    assert row["ranks"] == {"0": 22, "2": 22, "4": 22, "6": 22}
    assert row["compression"] == pytest.approx(statistics.fmean(r["final"]["compression"] for r in records[:3]))
    assert (row["epochs"], row["best_epoch"], row["seconds"]) == (3, 3, 61)


def test_figures_are_taken_from_final_as_they_stand() -> None:
    run = record("abc_psi", 0.1)
    run["final"] |= {"eval_params": 7, "compression": 0.123, "test_accuracy": 0.5}
    row = aggregate([run]).iloc[0]
    assert row[["eval_params", "compression", "accuracy"]].tolist() == [7, 0.123, 0.5]


def test_one_run_has_no_deviation() -> None:
    assert math.isnan(aggregate([record("psi")]).iloc[0]["accuracy_std"])


def test_abc_psis_compression_counts_the_low_rank_layers_only() -> None:
    rows = aggregate([record("abc_psi", 0.1, rank=20), record("dense", rank=None)])
    weights = sum(m * n for layer, (m, n) in LAYERS.items() if layer != "8")
    assert weights == 1_142_000
    assert rows["compression_low_rank"].iloc[0] == pytest.approx(1 - 20 * (1284 + 3 * 1000) / weights)
    assert math.isnan(rows["compression_low_rank"].iloc[1])


def test_each_configuration_is_a_row_whatever_its_seed_and_its_first_weights() -> None:
    records = [record("bug", seed=s, weights=f"key{s}") for s in (0, 1)] + [
        record("bug", seed=0, weights=None, rank_=1)
    ]
    assert aggregate(records)["n"].tolist() == [2, 1]


def test_options_at_which_a_run_is_what_it_was_without_them_make_no_row() -> None:
    old, new = record("psi"), record("psi", seed=1)
    new["config"]["integrator"] |= {"rank_budget": None}
    new["config"]["trainer"] |= {"accumulate": 1, "precision": "fp32"}
    new["config"] |= {"adapters": None}
    (row,) = aggregate([old, new]).to_dict("records")
    assert row["n"] == 2 and "adapters" not in row["config"]
    new["config"]["trainer"] |= {"precision": "bf16"}
    assert len(aggregate([old, new])) == 2


def test_a_methods_rows_stand_together_in_order_of_appearance() -> None:
    records = [record("psi", gain=1), record("bug", gain=1), record("psi", gain=0), record("bug", gain=0)]
    rows = aggregate(records)
    assert rows["method"].tolist() == ["psi", "psi", "bug", "bug"]
    assert [c["gain"] for c in rows["config"]] == [1, 0, 1, 0]


def test_what_is_not_recorded_or_was_cut_short_is_missing() -> None:
    records = [record("psi", status="preempted"), record("psi", seed=1, status="failed")]
    row = aggregate(records, missing=[config("psi", seed=2), config("psi", seed=3)]).iloc[0]
    assert row[["n", "failed", "missing"]].tolist() == [0, 1, 3]
    assert math.isnan(row["accuracy"]) and row["ranks"] == {}


def test_tuning_runs_have_a_validation_accuracy_only() -> None:
    runs = [record("aug_bug", 0.1, s, accuracy=0.97 + s / 100) for s in range(2)]
    for run in runs:
        run["final"]["test_accuracy"] = None
    row = aggregate(runs).iloc[0]
    assert row["n"] == 2 and math.isnan(row["accuracy"]) and math.isnan(row["accuracy_std"])
    assert (row["val_accuracy"], row["val_accuracy_std"]) == pytest.approx((0.975, 0.01 / 2**0.5))


def test_runs_from_given_weights_have_an_accuracy_before_training() -> None:
    runs = [record("bug", seed=s) | {"start": {"test_accuracy": 0.5 + s / 10}} for s in range(2)]
    row = aggregate(runs).iloc[0]
    assert (row["start_accuracy"], row["start_accuracy_std"]) == pytest.approx((0.55, 0.1 / 2**0.5))
    assert math.isnan(aggregate([record("bug")]).iloc[0]["start_accuracy"])


def test_a_fixed_rank_run_is_known_by_its_rank_and_its_output_layer() -> None:
    rows = aggregate([record("bug", rank=15) | {"config": config("bug") | {"rank": 15}}, record("aug_bug", 0.1)])
    assert rows["rank"].iloc[0] == 15 and math.isnan(rows["rank"].iloc[1])
    assert rows["output_dense"].all()
    assert not aggregate([record("bug", model={"name": "lenet5", "skip": []})])["output_dense"].any()
