"""Separate passes: the step of the equations, and the passes, factorisations and ranks it is made of."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from problems import NETS, dense_net, problem
from torch import Tensor, nn

import dlrt
from dlrt import textbook
from experiments.benchmark.reference import SeparatePasses

H = 0.05


def weights(model: nn.Module) -> list[Tensor]:
    biases = [p.detach().clone() for name, p in model.named_parameters() if name.endswith("bias")]
    return [layer.weight.detach() for layer in dlrt.low_rank_layers(model).values()] + biases


@pytest.mark.parametrize("kind", NETS)
def test_it_is_the_step_from_one_gradient(kind: str, double: None) -> None:
    net, x, y = dense_net(kind)
    model = dlrt.factorize(net, rank=3, init="orthonormal", gain=0.9)
    other = copy.deepcopy(model)
    separate, shared = SeparatePasses(model, H), dlrt.integrators.AugmentedBUG(other, H, tau=None)
    start = weights(other)
    for _ in range(4):
        mine = separate.step(lambda: F.cross_entropy(model(x), y))
        theirs = shared.step(lambda: F.cross_entropy(other(x), y))
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=0)
        torch.testing.assert_close(weights(model), weights(other), rtol=0, atol=1e-10)
    assert all(float((a - b).abs().max()) > 1e-4 for a, b in zip(start, weights(other), strict=True))


def test_it_is_the_textbooks_step(double: None) -> None:
    p = problem("mlp")
    expected = textbook.step("aug_bug", p.factors, p.gradient, h=H, tau=None, max_rank=3)
    SeparatePasses(p.model, H).step(p.closure)
    for layer, (U, S, V) in zip(p.layers, expected, strict=True):
        torch.testing.assert_close(layer.factors.dense(), U @ S @ V.mT, rtol=0, atol=1e-12)


def test_it_takes_three_forward_passes_and_keeps_ranks_and_forwards() -> None:
    p, calls = problem("conv"), list[int]()
    ranks = [layer.rank for layer in p.layers]

    def closure() -> Tensor:
        calls.append(1)
        return p.closure()

    SeparatePasses(p.model, H).step(closure)
    assert len(calls) == 3 and [layer.rank for layer in p.layers] == ranks
    assert all("forward" not in vars(layer) for layer in p.layers)
    assert all(layer.orthogonality_drift() < 1e-5 for layer in p.layers)
    assert all(q.requires_grad for q in p.model.parameters())


def test_a_failing_pass_leaves_the_layers_as_they_were() -> None:
    p = problem("mlp")
    before = [Y.dense() for Y in p.factors]

    def closure() -> Tensor:
        raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        SeparatePasses(p.model, H).step(closure)
    assert all("forward" not in vars(layer) for layer in p.layers)
    torch.testing.assert_close(p.Y, before)
