"""What is trained in fine-tuning, by which rule, and what stays as it is."""

from __future__ import annotations

import pytest
import torch

import dlrt
from dlrt.baselines import AdaLoRA, LoRA
from experiments.benchmark import contenders, inputs, nets
from experiments.benchmark.cases import Case
from experiments.config import ConfigError
from experiments.timing_tasks import Batches

CPU = torch.device("cpu")
METHODS = ("lora", "adalora", "parallel_bug", "aug_bug", "abc_psi", "psi")


def case(integrator: str, rank: int | None = 3, model: str = "vit_tiny", image_size: int = 8) -> Case:
    return Case(model, None, 2, rank, integrator, image_size=image_size)


def batch(of: Case) -> Batches:
    return inputs.batches(inputs.images(of, 0, CPU), of.batch)[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_step_moves_all_adapters_biases_and_the_head_and_nothing_else(method: str) -> None:
    tuned = contenders.own(case(method), 0, CPU)
    before = {name: p.detach().clone() for name, p in tuned.net.named_parameters()}
    Y = {name: adapter.weight.detach() for name, adapter in dlrt.adapters_of(tuned.net).items()}
    for _ in range(2):  # the first leaves one of two factors of zero where it is
        tuned.train(batch(case(method)))
    adapters = dlrt.adapters_of(tuned.net)
    assert len(adapters) == 4 * 6 and {adapter.rank for adapter in adapters.values()} == {3}
    # the bias of k shifts all scores of a row alike
    assert not [name for name in adapters if torch.equal(adapters[name].weight, Y[name])]
    now = dict(tuned.net.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], now[name])}
    dense = {name for name in before if ".adapter." not in name}
    assert moved & dense == {n for n in dense if n.startswith("heads.") or n.endswith("bias")}


def test_linear_probing_trains_the_head_alone() -> None:
    for model, size in (("vit_tiny", 8), ("vit_small", 14)):
        net = nets.trained_net(case("probe", None, model, size), 0)
        assert {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad} <= {"heads", "head"}
        assert dlrt.adapters_of(net) == {} and any(p.requires_grad for p in net.parameters())


def test_full_fine_tuning_trains_everything_by_the_same_rule() -> None:
    full, tuned = contenders.dense(case("lora"), "fp32", 0, CPU), contenders.own(case("lora"), 0, CPU)
    assert all(p.requires_grad for p in full.net.parameters()) and isinstance(tuned.optimizer, LoRA)
    assert type(full.optimizer.base) is type(tuned.optimizer.base) is torch.optim.AdamW  # type: ignore[attr-defined]
    full.train(batch(case("lora")))
    assert all(p.grad is not None and p.grad.any() for n, p in full.net.named_parameters() if not n.endswith("bias"))


def test_adalora_keeps_the_books_that_its_masking_needs() -> None:
    tuned = contenders.own(case("adalora"), 0, CPU)
    for _ in range(12):
        tuned.train(batch(case("adalora")))
    assert isinstance(tuned.optimizer, AdaLoRA)
    for adapter in tuned.optimizer.adapters:
        assert "uncertainty" in tuned.optimizer.state[adapter.P]
    assert sum(adapter.rank for adapter in tuned.optimizer.adapters) >= 24 * 3 - 1


def test_a_size_or_rank_that_cannot_be_is_one_sentence() -> None:
    nets.check(case("abc_psi", 128))
    for wrong, sentence in (
        (case("abc_psi", 129), "a case of vit_tiny: .* got 129"),
        (case("lora", image_size=9), "image_size is 9"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            nets.check(wrong)
