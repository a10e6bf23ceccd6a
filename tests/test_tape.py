from __future__ import annotations

import pytest
import torch
from problems import NETS, problem
from torch import nn

import dlrt
from dlrt.closures import gradient_pass
from dlrt.tape import Gradient, MatrixGradient, recording


@pytest.mark.parametrize("rank", [2, 3, 8])  # thin factors, some layers' thin, none
@pytest.mark.parametrize("kind", NETS)
def test_products_are_those_of_the_dense_gradient(kind, rank, double):
    p = problem(kind, rank)
    G = p.gradient(p.Y)
    with recording(dlrt.low_rank_layers(p.model)) as tapes:
        gradient_pass(p.closure, [], tapes)
    for tape, dense in zip(tapes.values(), G, strict=True):
        U, _, V = tape.Y
        torch.testing.assert_close(tape.dense(), dense)
        U2, V2 = torch.cat([U, torch.randn(len(U), 2)], 1), torch.cat([V, torch.randn(len(V), 3)], 1)
        for left, right in ((U, V), (U2, V), (U, V2), (U2, V2)):
            torch.testing.assert_close(tape.right(right), dense @ right)
            torch.testing.assert_close(tape.left(left), dense.mT @ left)
            torch.testing.assert_close(tape.core(left, right), left.mT @ dense @ right)
        tangent = U @ U.mT @ dense + (dense - U @ U.mT @ dense) @ V @ V.mT
        torch.testing.assert_close(tape.tangent_norm2(), tangent.square().sum())
        for scale in (0.5, torch.tensor(0.5)):
            tape.rescale(scale)
        torch.testing.assert_close(tape.right(V2), 0.25 * dense @ V2)
        torch.testing.assert_close(tape.core(U2, V2), 0.25 * U2.mT @ dense @ V2)


def test_the_matrix_is_formed_only_where_the_factors_hold_as_many_numbers():
    thin, thick = (dlrt.LowRankLinear(40, 30, rank) for rank in (14, 15))  # 14 · 84 < 1200 ≤ 15 · 85
    with recording({"thin": thin, "thick": thick}) as tapes:
        assert [type(tape) for tape in tapes.values()] == [Gradient, MatrixGradient]


def test_recording_changes_neither_output_nor_input_gradient(double):
    p, x = problem("conv"), torch.randn(2, 3, 8, 8, requires_grad=True)
    plain = p.model(x)
    with recording(dlrt.low_rank_layers(p.model)):
        recorded = p.model(x)
    torch.testing.assert_close(recorded, plain)
    (a,), (b,) = (torch.autograd.grad(z.square().sum(), x) for z in (plain, recorded))
    torch.testing.assert_close(a, b)


def test_evaluation_within_a_step_is_not_recorded():
    layer = dlrt.LowRankLinear(40, 30, 2)
    with recording({"layer": layer}) as tapes:
        with torch.no_grad():
            layer(torch.ones(1, 40))
        gradient_pass(lambda: layer(torch.ones(1, 40)).sum(), [], tapes)
    assert len(tapes["layer"].calls) == 1
    assert layer.tape is None


def test_an_input_changed_in_place_is_noticed():
    model = dlrt.factorize(nn.Sequential(nn.Linear(40, 30)), rank=2)

    def closure():
        x = torch.ones(3, 40) * 2
        loss = model(x).sum()
        x.mul_(0)
        return loss

    with pytest.raises(RuntimeError, match="modified in place"):
        dlrt.integrators.PSI(model, lr=0.1).step(closure)


def test_in_place_activations_are_fine(double):
    torch.manual_seed(0)
    models = []
    for inplace in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace), nn.Linear(8, 8), nn.ReLU(inplace), nn.Linear(8, 3))
        models.append(dlrt.factorize(net, rank=3, init="orthonormal"))
    x = torch.randn(5, 6)
    for model in models:
        stepper = dlrt.integrators.AugmentedBUG(model, lr=0.1)
        for _ in range(2):
            stepper.step(lambda model=model: model(x).square().sum())
    torch.testing.assert_close(models[0](x), models[1](x))
