from typing import Any

import pytest
from fake_adapters import tuned

from experiments.adapter_claim import claim
from experiments.adapter_rows import adapter_rows


def seeds(method: str, accuracy: float, rank: int, n: int = 3, **fields: Any) -> list[dict[str, Any]]:
    """Runs whose accuracies have the mean `accuracy` and, if three, the deviation 0.001."""
    return [tuned(method, s, accuracy + (s - (n - 1) / 2) / 1000, rank, **fields) for s in range(n)]


def sentence(*runs: list[dict[str, Any]]) -> str:
    return claim(adapter_rows([run for part in runs for run in part]))


def test_it_is_confirmed_with_the_numbers() -> None:
    assert sentence(seeds("lora", 0.98, 3), seeds("abc_psi", 0.982, 2, tau=0.1)) == (
        "abc-PSI has at least LoRA's accuracy with at most 0.72 × its parameters: confirmed on cifar10 "
        "(abc-PSI 98.20 ± 0.10 %, median 98.20, n = 3, 0.32 M against LoRA, r = 3 98.00 ± 0.10 %, median 98.00, n = 3, "
        "0.47 M: +0.20 ± 0.08 points, 0.667 × the parameters)."
    )


@pytest.mark.parametrize(
    ("accuracy", "rank", "verdict"),
    [
        (0.98, 2, "confirmed on"),
        (0.9799, 2, "refuted by its accuracy on"),
        (0.99, 3, "refuted by its parameters on"),
        (0.97, 3, "refuted by its accuracy and parameters on"),
    ],
)
def test_it_is_judged_by_means_and_parameters(accuracy: float, rank: int, verdict: str) -> None:
    assert f": {verdict} cifar10 (" in sentence(seeds("lora", 0.98, 3), seeds("abc_psi", accuracy, rank, tau=0.1))


def test_means_decide_and_not_medians() -> None:
    lora = [tuned("lora", s, a) for s, a in enumerate((0.97, 0.98, 0.981))]  # mean 0.977
    psi = [tuned("abc_psi", s, a, 2, tau=0.1) for s, a in enumerate((0.9785, 0.979, 0.9795))]
    text = sentence(lora, psi)
    assert ": confirmed on" in text and "median 97.90" in text and "median 98.00" in text


def test_the_bound_is_the_ratio_of_the_printed_counts() -> None:
    lora, psi = seeds("lora", 0.97, 3), seeds("abc_psi", 0.98, 2, tau=0.1)
    for share, verdict in ((0.34 / 0.47 - 1e-6, "confirmed"), (0.34 / 0.47 + 1e-6, "refuted by its parameters")):
        for run in psi:
            run["final"]["adapter_params"] = share * 497_664
        assert f": {verdict} on" in sentence(lora, psi)


def test_every_data_set_has_its_verdict_and_few_runs_are_said_to_be_few() -> None:
    text = sentence(
        seeds("lora", 0.98, 3), seeds("abc_psi", 0.982, 2, tau=0.1),
        seeds("lora", 0.91, 3, data="cifar100"), seeds("abc_psi", 0.90, 2, 1, tau=0.1, data="cifar100"),
    )  # fmt: skip
    assert ": confirmed on cifar10 (" in text
    assert "; refuted by its accuracy, with too few runs to tell, on cifar100 (abc-PSI 90.00 %" in text


def test_of_several_rows_the_best_with_few_enough_parameters_counts_or_the_smallest() -> None:
    lora = seeds("lora", 0.98, 3)
    rows = [seeds("abc_psi", 0.981, 2, tau=0.2), seeds("abc_psi", 0.97, 1, tau=0.3), seeds("abc_psi", 0.99, 9, tau=0.1)]
    assert "confirmed on cifar10 (abc-PSI 98.10" in sentence(lora, *rows)
    large = [seeds("abc_psi", 0.985, 4, tau=0.2), seeds("abc_psi", 0.981, 9, tau=0.1)]
    assert "refuted by its parameters on cifar10 (abc-PSI 98.50" in sentence(lora, *large)


def test_without_both_methods_there_is_no_sentence() -> None:
    assert sentence(seeds("lora", 0.98, 3), seeds("aug_bug", 0.98, 2, tau=0.1)) == ""
    diverged = [run | {"status": "diverged", "final": None} for run in seeds("abc_psi", 0.98, 2, tau=0.1)]
    assert sentence(seeds("lora", 0.98, 3), diverged) == ""
