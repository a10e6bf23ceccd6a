import math
import statistics
from typing import Any

import pytest
from fake_adapters import layers, tuned
from fake_records import record

from experiments.adapter_rows import adapter_rows, is_adaptive, label_of


def config(method: str, **fields: Any) -> dict[str, Any]:
    return tuned(method, **fields)["config"]  # type: ignore[no-any-return]


def test_lora_on_vit_b_16_has_the_papers_count() -> None:
    row = adapter_rows([tuned("lora")]).iloc[0]
    assert row["adapter_params"] == 497_664 and f"{row['mebi']:.2f}" == "0.47"
    assert (row["total_rank"], row["mean_rank"], row["rank"]) == (216, 3, 3)
    assert (row["printed_mebi"], row["printed_accuracy"]) == (0.47, pytest.approx(0.9847))


def test_each_way_to_fine_tune_has_its_name() -> None:
    labels = [label_of(config(method)) for method in ("lora", "adalora", "dense", "probe", "psi")]
    assert labels == ["LoRA, r = 3", "AdaLoRA", "full fine-tuning", "linear probing", "PSI, r = 32"]
    adaptive = [label_of(config(method, tau=0.1)) for method in ("parallel_bug", "abc_psi", "aug_bug")]
    assert adaptive == ["GeoLoRA (parallel BUG)", "abc-PSI", "aug. BUG (DLRT)"]


def test_ranks_adapt_by_a_tolerance_or_within_a_budget_or_under_adalora() -> None:
    assert [is_adaptive(config("abc_psi", **how)) for how in ({"tau": 0.1}, {"budget": 99}, {})] == [True, True, False]
    assert is_adaptive(config("adalora")) and not is_adaptive(config("lora"))
    assert is_adaptive(record("abc_psi", 0.1)["config"]) and not is_adaptive(record("psi")["config"])


def test_statistics_are_those_of_the_finished_seeds() -> None:
    accuracies, ranks = [0.97, 0.99, 0.971, 0.972], [2, 4, 3, 3]
    runs = [tuned("abc_psi", s, a, r, tau=0.1) for s, (a, r) in enumerate(zip(accuracies, ranks, strict=True))]
    runs.append(tuned("abc_psi", 4, tau=0.1) | {"status": "diverged", "final": None})
    (row,) = adapter_rows(runs, [config("abc_psi", seed=5, tau=0.1)]).to_dict("records")
    assert (row["n"], row["diverged"], row["missing"]) == (4, 1, 1)
    assert row["accuracy_median"] == pytest.approx(statistics.median(accuracies)) != pytest.approx(row["accuracy"])
    counted = [sum(r * (m + n) + r * r for m, n in layers().values()) for r in ranks]
    assert row["adapter_params"] == pytest.approx(statistics.fmean(counted))
    assert row["trainable_params"] == pytest.approx(100_000 + statistics.fmean(counted))
    assert (row["total_rank"], row["mean_rank"]) == (216, 3)
    assert row["step_seconds"] == pytest.approx(0.25)  # of 0.1, 0.2, 0.3 and 0.4


def test_without_adapters_there_is_nothing_to_count_but_what_is_trained() -> None:
    rows = adapter_rows([tuned("dense", rank=None), tuned("probe", rank=None)])
    assert rows["method"].tolist() == ["dense", "probe"]
    assert rows[["adapter_params", "mebi", "total_rank", "mean_rank", "rank", "printed_accuracy"]].isna().all(axis=None)
    assert rows["trainable_params"].tolist() == [100_000, 7690]


def test_the_paper_stands_beside_its_own_backbone_and_data_only() -> None:
    runs = [tuned("abc_psi", tau=0.1), tuned("abc_psi", tau=0.1, data="cifar100"), tuned("aug_bug", tau=0.1),
            tuned("abc_psi", tau=0.1, model="vit_small"), tuned("abc_psi", tau=0.1, data="imagenette")]  # fmt: skip
    rows = adapter_rows(runs).set_index(["model", "data", "method"])["printed_accuracy"].dropna()
    assert rows.to_dict() == {
        ("vit_b_16", "cifar10", "abc_psi"): pytest.approx(0.9857),
        ("vit_b_16", "cifar100", "abc_psi"): pytest.approx(0.9093),
    }


def test_the_rows_of_a_data_set_stand_together() -> None:
    runs = [tuned(method, data=data, tau=0.1) for method in ("abc_psi", "aug_bug") for data in ("cifar10", "cifar100")]
    rows = adapter_rows(runs)
    assert rows["data"].tolist() == ["cifar10", "cifar10", "cifar100", "cifar100"]
    assert rows["method"].tolist() == ["abc_psi", "aug_bug"] * 2


def test_a_record_without_a_count_of_steps_has_no_step_time() -> None:
    run = tuned("lora")
    del run["timing"]["steps"]
    assert math.isnan(adapter_rows([run])["step_seconds"].iloc[0])
