"""The contract of `Integrator.step`: cost, what it touches, what it refuses."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from problems import problem
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import dlrt

EVERY = sorted(dlrt.INTEGRATORS)
ADAPTIVE = [name for name in EVERY if dlrt.INTEGRATORS[name].rank_adaptive]
SEVERAL = [name for name in EVERY if dlrt.INTEGRATORS[name].new_points]


class Products(TorchDispatchMode):
    """Multiplications of the matrix products that involve the batch, and the shapes of all results."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch, self.multiplications, self.shapes = batch, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm"):
            a, b = args[-2:]
            if self.batch in (*a.shape, *b.shape):
                self.multiplications += a.shape[0] * a.shape[1] * b.shape[1]
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.shapes.add(tuple(x.shape))
        return out


@pytest.mark.parametrize("name", EVERY)
def test_cost_in_matrix_products_and_no_dense_matrix(name):
    """Thin products per step, counted: they are what a pass costs, whatever calls the closure.

    A pass over a layer (m, n) takes xV and the input's cotangent (n each), pUᵀ and δU (m each); the gradient's products
    GV and GᵀU take m and n, and the augmented blocks δŨ, xᵀ(δŨ) or xṼ another m + n; all times b·r.
    """
    b, r, sizes = 40, 5, [31, 37, 43]
    model = nn.Sequential(nn.Linear(31, 37, bias=False), nn.Tanh(), nn.Linear(37, 43, bias=False), nn.Tanh())
    dlrt.factorize(model, rank=r, init="orthonormal")
    x = torch.randn(b, 31, requires_grad=True)
    stepper = dlrt.INTEGRATORS[name](model, lr=0.1)
    with Products(b) as seen:
        stepper.step(lambda: model(x).square().mean())
    # Each pass takes 2 (m + n) r; what follows is per step, then the r × r and corner terms.
    after = {
        "psi": lambda m, n: m + m + n,
        "bc_psi": lambda m, n: m + n,
        "abc_psi": lambda m, n: 2 * m + 2 * n,
        "bug": lambda m, n: 2 * m + n,
        "aug_bug": lambda m, n: 2 * m + 2 * n + r,
        "parallel_bug": lambda m, n: m + n,
    }[name]
    passes = {"abc_psi": 1, "aug_bug": 1, "parallel_bug": 1, "bug": 2, "bc_psi": 2, "psi": 3}[name]
    pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
    expected = sum(b * r * (passes * (2 * (m + n) + 2 * r) + after(m, n)) for m, n in pairs)
    assert stepper.passes == passes
    assert seen.multiplications == expected
    for m, n in pairs:
        assert not {(m, n), (n, m)} & seen.shapes


@pytest.mark.parametrize("name", EVERY)
def test_no_dense_kernel_is_formed_by_a_convolution(name):
    model = dlrt.factorize(nn.Sequential(nn.Conv2d(7, 41, 3)), rank=4, init="orthonormal")
    x = torch.randn(2, 7, 6, 6)
    stepper = dlrt.INTEGRATORS[name](model, lr=0.1)
    with Products(-1) as seen:
        stepper.step(lambda: model(x).square().mean())
    assert not {(41, 63), (63, 41), (41, 7, 3, 3)} & seen.shapes


class Watched(nn.Module):
    """Dropout that remembers its masks."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[torch.Tensor] = []

    def forward(self, x):
        mask = (torch.rand(x.shape[1:]) > 0.5).float()
        self.masks.append(mask)
        return x * mask


@pytest.mark.parametrize("name", SEVERAL)
def test_later_passes_repeat_the_first_ones_randomness_and_keep_its_statistics(name):
    watched, norm = Watched(), nn.BatchNorm1d(10, momentum=None)
    model = nn.Sequential(nn.Linear(12, 10), norm, watched, nn.Linear(10, 4))
    dlrt.factorize(model, rank=3, init="orthonormal")
    x = torch.randn(16, 12)
    expected = model[0](x).mean(0).detach()
    stepper = dlrt.INTEGRATORS[name](model, lr=0.1)
    stepper.step(lambda: model(x).square().mean())
    assert len(watched.masks) == stepper.passes > 1
    assert all(torch.equal(mask, watched.masks[0]) for mask in watched.masks)
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, expected)
    model(x)
    assert not torch.equal(watched.masks[-1], watched.masks[0])  # the generator has moved on


@pytest.mark.parametrize("name", EVERY)
def test_other_parameters_take_one_step_with_the_first_gradient(name):
    p = problem("mlp")
    biases = {k: v for k, v in p.model.named_parameters() if k.endswith("bias")}
    start = {k: v.detach().clone() for k, v in biases.items()}
    seen = []

    def closure():
        seen.append([v.detach().clone() for v in biases.values()])
        return p.closure()

    gradients = dict(zip(biases, torch.autograd.grad(p.closure(), list(biases.values())), strict=True))
    dlrt.INTEGRATORS[name](p.model, lr=0.1).step(closure)
    for k, bias in biases.items():
        torch.testing.assert_close(bias.detach(), start[k] - 0.1 * gradients[k])
    assert all(torch.equal(b, s) for values in seen for b, s in zip(values, start.values(), strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_a_layer_the_loss_does_not_reach_stays_unchanged(name):
    model = nn.ModuleDict({"used": nn.Linear(8, 6), "idle": nn.Linear(8, 6)})
    dlrt.factorize(model, rank=3, init="orthonormal")
    before = copy.deepcopy(model.state_dict())
    stepper = dlrt.INTEGRATORS[name](model, lr=0.1, decay=0.1, optimizer="adam")
    x = torch.randn(5, 8)
    for _ in range(3):
        stepper.step(lambda: model["used"](x).square().mean())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("idle"), key


@pytest.mark.parametrize("name", EVERY)
def test_micro_batches_are_one_step_on_the_sum_of_their_losses(name, double):
    p = problem("mlp")
    q = copy.deepcopy(p.model)
    x, y = torch.randn(24, 12), torch.randint(0, 4, (24,))
    parts = [slice(0, 10), slice(10, 24)]

    def loss(model, part):
        return F.cross_entropy(model(x[part]), y[part], reduction="sum") / 24

    for model, closure in ((p.model, partial(loss, p.model, slice(0, 24))), (q, [partial(loss, q, s) for s in parts])):
        stepper = dlrt.INTEGRATORS[name](model, lr=0.2)
        for _ in range(3):
            stepper.step(closure)
    for (key, a), b in zip(dlrt.low_rank_layers(p.model).items(), dlrt.low_rank_layers(q).values(), strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-12, msg=key)


@pytest.mark.parametrize("name", EVERY)
def test_clipping_is_a_shorter_step(name, double):
    """For SGD, clipping the gradient to norm c is a step of size h c / ‖gradient‖."""
    p = problem("mlp")
    q = copy.deepcopy(p.model)
    p_clipped = dlrt.INTEGRATORS[name](p.model, lr=0.2, max_grad_norm=1e-2)
    x, y = torch.randn(20, 12), torch.randint(0, 4, (20,))
    norm2 = 0.0
    for layer, G in zip(p.layers, _dense_gradients(q, x, y), strict=True):
        U, _, V = layer.factors
        PG = U @ U.mT @ G + (G - U @ U.mT @ G) @ V @ V.mT
        norm2 += float(PG.square().sum())
    biases = [v for k, v in q.named_parameters() if k.endswith("bias")]
    norm2 += sum(float(g.square().sum()) for g in torch.autograd.grad(F.cross_entropy(q(x), y), biases))
    p_clipped.step(lambda: F.cross_entropy(p.model(x), y))
    dlrt.INTEGRATORS[name](q, lr=0.2 * 1e-2 / norm2**0.5).step(lambda: F.cross_entropy(q(x), y))
    for a, b in zip(p.layers, dlrt.low_rank_layers(q).values(), strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-10)
    torch.testing.assert_close(p.model[0].bias, q[0].bias, rtol=0, atol=1e-10)


def _dense_gradients(model, x, y):
    with dlrt.tape.recording(dlrt.low_rank_layers(model)) as tapes:
        F.cross_entropy(model(x), y).backward()
    model.zero_grad()
    return [tape.dense() for tape in tapes.values()]


@pytest.mark.parametrize("name", EVERY)
def test_decay_shrinks_the_coefficients(name, double):
    p = problem("mlp")
    before = p.Y
    dlrt.INTEGRATORS[name](p.model, lr=0.1, decay=0.5).step(lambda: 0.0 * p.closure())
    for Y0, Y1 in zip(before, p.Y, strict=True):
        torch.testing.assert_close(Y1, 0.95 * Y0, rtol=0, atol=1e-13)


def test_schedulers_reach_both_groups_and_the_base_optimiser():
    p = problem("mlp")
    stepper = dlrt.integrators.AugmentedBUG(p.model, lr=0.1, base_optimizer=partial(torch.optim.SGD, lr=0.02))
    schedule = torch.optim.lr_scheduler.LambdaLR(stepper, lambda t: 0.5**t)
    stepper.step(p.closure)
    schedule.step()
    assert [group["lr"] for group in stepper.param_groups] == [0.05, 0.01]
    bias = p.model[0].bias
    before = bias.detach().clone()
    stepper.step(p.closure)
    torch.testing.assert_close(bias.detach(), before - 0.01 * bias.grad)


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_momentum_of_the_base_optimiser_survives_a_checkpoint(rule):
    p = problem("mlp")
    stepper = dlrt.integrators.BUG(p.model, lr=0.01, optimizer=rule)
    stepper.step(p.closure)
    assert p.model[0].bias in stepper.state
    stepper.load_state_dict(stepper.state_dict())
    assert stepper.base.state is stepper.state
    assert stepper.base.param_groups[0] is stepper.param_groups[1]


def test_all_factors_and_no_other_parameters():
    model = dlrt.factorize(nn.Sequential(nn.Linear(8, 6, bias=False)), rank=2)
    stepper = dlrt.integrators.PSI(model, lr=0.1)
    stepper.step(lambda: model(torch.ones(3, 8)).square().mean())
    assert len(stepper.param_groups) == 1


def test_a_non_finite_core_is_divergence_and_names_the_layer():
    p = problem("mlp")
    stepper = dlrt.integrators.AugmentedBUG(p.model, lr=1e30, tau=0.1)
    with pytest.raises(dlrt.Divergence) as caught:
        for _ in range(20):
            stepper.step(p.closure)
    assert caught.value.layer in {None, "0", "2", "4"}
    p = problem("mlp")
    p.layers[1].S.data.fill_(1e38)
    with pytest.raises(dlrt.Divergence, match=r"not finite|loss is"):
        dlrt.integrators.AugmentedBackwardCorrectedPSI(p.model, lr=1e38, tau=0.1).step(lambda: p.closure() * 1e30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 1.0}, "tau must be in"),
        ({"tau": -0.1}, "tau must be in"),
        ({"lr": -1.0}, "lr must be"),
        ({"min_rank": 0}, "min_rank must be"),
        ({"min_rank": 5, "max_rank": 3}, "max_rank must be"),
        ({"optimizer": "adamw"}, "optimizer must be one of sgd, momentum, adam"),
        ({"decay": 20.0}, "decay must be"),
        ({"inner_steps": 0}, "inner_steps must be"),
        ({"transport": "reset"}, "transport must be one of"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be"),
        ({"base_optimizer": "adam"}, "base_optimizer must be a function"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dlrt.integrators.AugmentedBUG(problem("mlp").model, **{"lr": 0.1} | options)


def test_wrong_models_and_closures_are_refused():
    with pytest.raises(ValueError, match=r"call dlrt\.factorize"):
        dlrt.integrators.PSI(nn.Linear(3, 3), lr=0.1)
    with pytest.raises(ValueError, match="PSI keeps its rank and takes no tau"):
        dlrt.integrators.PSI(problem("mlp").model, lr=0.1, tau=0.1)
    stepper = dlrt.integrators.PSI(problem("mlp").model, lr=0.1)
    for wrong in (None, [], lambda: 3.0, lambda: torch.ones(2, requires_grad=True), lambda: torch.tensor(1.0)):
        with pytest.raises(ValueError, match="closure"):
            stepper.step(wrong)


def test_a_closure_that_calls_backward_is_refused():
    p = problem("mlp")

    def closure():
        loss = p.closure()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="must only compute the loss"):
        dlrt.integrators.BUG(p.model, lr=0.1).step(closure)
