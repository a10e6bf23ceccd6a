"""What every integrator in the registry must do. A new integrator joins by being a file of the package."""

from __future__ import annotations

import pytest
import torch
from problems import NETS, matrix_layer, prescribe, problem, random_matrix
from torch import Tensor, nn

import dlrt
from dlrt import Factors, textbook
from dlrt.diagnostics import orthogonality_drift

EVERY = sorted(dlrt.INTEGRATORS)
ADAPTIVE = [name for name in EVERY if dlrt.INTEGRATORS[name].rank_adaptive]
FIXED = [name for name in EVERY if name not in ADAPTIVE]


def integrator(name: str, model: nn.Module, lr: float = 0.1, **options):
    if name in FIXED:
        options.pop("tau", None)
    return dlrt.INTEGRATORS[name](model, lr=lr, **options)


@pytest.mark.parametrize("tau", [None, 0.2])
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", EVERY)
def test_steps_agree_with_the_textbook(name, kind, tau, double):
    p = problem(kind)
    stepper = integrator(name, p.model, tau=tau)
    factors = p.factors
    for _ in range(3):
        before = p.Y
        factors = textbook.step(name, factors, p.gradient, 0.1, tau)
        stepper.step(p.closure)
        for Y, Y0, reference in zip(p.Y, before, factors, strict=True):
            U, S, V = reference
            assert (Y - U @ S @ V.mT).norm() <= 1e-10
            assert (Y - Y0).norm() > 1e-4  # the step moved the layer: agreement is not that of two idle steps


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", EVERY)
def test_inner_steps_agree_with_the_textbooks_substeps(name, kind, double):
    """A cycle of s calls per flow on one batch is one step of size s·h whose flows take s Euler steps."""
    p = problem(kind)
    for param in p.model.parameters():
        param.requires_grad_(param.ndim == 2)  # frozen biases: the textbook moves the matrices only
    stepper = integrator(name, p.model, tau=0.1, inner_steps=3)
    reference = textbook.step(name, p.factors, p.gradient, 0.3, 0.1 if name in ADAPTIVE else None, substeps=3)
    # K and L of the BUG family are flows of their own here
    for _ in range(3 * len(stepper.flows)):
        stepper.step(p.closure)
    for Y, (U, S, V) in zip(p.Y, reference, strict=True):
        assert (Y - U @ S @ V.mT).norm() <= 1e-10


@pytest.mark.parametrize("name", EVERY)
def test_bases_stay_orthonormal_in_float32(name):
    """200 steps through batch < r, 2r > min(m, n), a zero gradient and changes of the rank."""
    model = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 6))
    dlrt.factorize(model, rank={"0": 14, "2": 14, "4": 5}, init="orthonormal")
    stepper = integrator(name, model, lr=0.1, tau=0.05)
    x, y = torch.randn(64, 30), torch.randint(0, 6, (64,))
    ranks = set()
    for i in range(200):
        batch = slice(0, 8) if i % 4 == 0 else slice(0, 64)
        scale = 0.0 if i % 50 == 7 else 1.0
        if name in ADAPTIVE and i == 120:
            stepper.param_groups[0]["tau"] = 0.3
        stepper.step(lambda batch=batch, scale=scale: scale * nn.functional.cross_entropy(model(x[batch]), y[batch]))
        ranks.add(tuple(layer.rank for layer in dlrt.low_rank_layers(model).values()))
        drift = orthogonality_drift(model)
        assert max(drift.values()) < 5e-6, (i, drift)
    assert (len(ranks) > 1) == (name in ADAPTIVE)


@pytest.mark.parametrize("name", EVERY)
def test_a_zero_gradient_leaves_the_weight(name, double):
    p = problem("mlp")
    before = p.Y
    integrator(name, p.model, tau=0.0).step(lambda: 0.0 * p.closure())
    for Y0, Y1 in zip(before, p.Y, strict=True):
        torch.testing.assert_close(Y1, Y0, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", [n for n in EVERY if n != "parallel_bug"])
def test_exact_when_the_gradient_is_constant_and_the_end_has_rank_r(name, double):
    Y0, Y1 = (random_matrix(12, 9, torch.tensor([2.0, 1.0, 0.5])) for _ in range(2))
    layer, h = matrix_layer(Y0), 0.5
    G = (Y0.dense() - Y1.dense()) / h
    integrator(name, layer, lr=h).step(prescribe(layer, lambda Y: G))
    assert (layer.weight - Y1.dense()).norm() <= 1e-12


def test_parallel_bug_is_not_exact_but_the_projected_gradient_step(double):
    Y0, target = (random_matrix(12, 9, torch.tensor([2.0, 1.0, 0.5])) for _ in range(2))
    layer, h = matrix_layer(Y0), 0.5
    G = (Y0.dense() - target.dense()) / h
    integrator("parallel_bug", layer, lr=h, tau=0.0).step(prescribe(layer, lambda Y: G))
    U, _, V = Y0
    projected = U @ U.mT @ G + G @ V @ V.mT - U @ U.mT @ G @ V @ V.mT
    assert (layer.weight - (Y0.dense() - h * projected)).norm() <= 1e-13
    assert (layer.weight - target.dense()).norm() > 1e-2


def skew(k: int) -> Tensor:
    A = torch.randn(k, k)
    return (A - A.mT) / 4


def error_at_one(name: str, sigma: Tensor, h: float) -> float:
    """Error at t = 1 on Ẏ = A Y + Y Bᵀ with skew A and B, whose exact solution is e^{tA} Y₀ e^{tBᵀ}."""
    torch.manual_seed(1)
    m, n = 12, 9
    A, B, Y0 = skew(m), skew(n), random_matrix(m, n, sigma)
    layer = matrix_layer(Y0)
    stepper = integrator(name, layer, lr=h)
    closure = prescribe(layer, lambda Y: -(A @ Y + Y @ B.mT))
    for _ in range(round(1 / h)):
        stepper.step(closure)
    Y = layer.factors.dense()
    exact = torch.matrix_exp(A) @ Y0.dense() @ torch.matrix_exp(B).mT
    return float((Y - exact).norm())


@pytest.mark.parametrize("name", EVERY)
def test_error_is_first_order_whatever_the_smallest_singular_value(name, double):
    """abc-PSI, 2025, Theorems 5.3 and 5.6: error ≤ C h with one C for all σ_min."""
    steps = [1 / 32, 1 / 64, 1 / 128]
    constants = []
    for smallest in (1e-1, 1e-4, 1e-8, 1e-12):
        sigma = torch.tensor([1.0, 0.5, smallest**0.5 / 2, smallest])
        errors = [error_at_one(name, sigma, h) for h in steps]
        constants += [error / h for error, h in zip(errors, steps, strict=True)]
        order = torch.tensor(errors[0] / errors[-1]).log2() / 2
        assert abs(order - 1) < 0.2, (smallest, errors)
    assert max(constants) < 4 * min(constants), constants


def quadratic(c: float, seed: int):
    torch.manual_seed(seed)
    Y0, A = random_matrix(12, 9, torch.tensor([2.0, 1.0, 0.5])), torch.randn(12, 9)
    layer = matrix_layer(Y0)
    eye = torch.eye(9)
    return layer, A, lambda: 0.5 * c * (layer(eye).mT - A).square().sum()


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("hc", [0.05, 0.5, 1.0, 1.9])
def test_descent_before_truncation(name, hc, double):
    """ℓ(Ŷ₁) ≤ ℓ(Y₀) − (1 − h c/2) h ‖P G‖², each integrator with the projection P of its own step; τ = 0 cuts nothing.

    abc-PSI, 2025, Theorem 5.8 (P = ÛÛᵀ); on ½c‖Y − A‖² the bound holds with equality.
    """
    c = 2.0
    for seed in range(20):
        layer, A, closure = quadratic(c, seed)
        (U, _, V), h = layer.factors, hc / c
        G = c * (layer.factors.dense() - A)
        U_hat = torch.linalg.qr(torch.cat([U, G @ V], 1))[0]
        V_hat = torch.linalg.qr(torch.cat([V, G.mT @ U], 1))[0]
        PG = {
            "abc_psi": U_hat @ U_hat.mT @ G,
            "aug_bug": U_hat @ U_hat.mT @ G @ V_hat @ V_hat.mT,
            "parallel_bug": U @ U.mT @ G + (G - U @ U.mT @ G) @ V @ V.mT,
        }[name]
        before = integrator(name, layer, lr=h, tau=0.0).step(closure)
        bound = before - (1 - hc / 2) * h * PG.square().sum()
        torch.testing.assert_close(closure(), bound, rtol=1e-11, atol=0)


def test_psi_can_raise_the_loss(double):
    """Lemma 5.1. With the target in the bases, K-, S- and L-step multiply the error by 1 − hc, 1 + hc and 1 − hc."""
    U, _, V = Y0 = random_matrix(10, 8, torch.tensor([2.0, 1.0]))
    layer, target, eye = matrix_layer(Y0), U @ torch.tensor([[1.0, 0.3], [0.2, 3.0]]) @ V.mT, torch.eye(8)

    def closure():
        return 0.5 * (layer(eye).mT - target).square().sum()

    before = integrator("psi", layer, lr=1.9).step(closure)
    factor = (1 - 1.9) ** 2 * (1 + 1.9)
    torch.testing.assert_close(closure().detach(), before * factor**2)
    assert closure() > before


def test_fixed_rank_bug_can_raise_the_loss_at_a_small_step(double):
    """Its bases turn towards e₂, where the target is −100, and the projection S̄ loses part of Y₀."""
    rises = {}
    for name in ("bug", "aug_bug"):
        Y0 = Factors(torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0]]), torch.tensor([[1.0], [0.0]]))
        layer, eye = matrix_layer(Y0), torch.eye(2)
        target = torch.tensor([[1.0, 10.0], [10.0, -100.0]])

        def closure(layer=layer, target=target, eye=eye):
            return 0.5 * (layer(eye).mT - target).square().sum()

        before = integrator(name, layer, lr=0.05, tau=0.0).step(closure)
        rises[name] = bool(closure() > before)
    assert rises == {"bug": True, "aug_bug": False}


@pytest.mark.parametrize("rule", ["momentum", "adam"])
@pytest.mark.parametrize("transport", ["project", "index"])
@pytest.mark.parametrize("name", EVERY)
def test_the_rules_state_follows_the_rank(name, transport, rule):
    """Growth and shrinkage with optimiser state: shapes follow, and the loss falls."""
    p = problem("mlp", rank=2)
    lr = {"momentum": 0.1, "adam": 0.02}[rule]
    stepper = integrator(name, p.model, lr=lr, optimizer=rule, transport=transport, tau=1e-6)
    losses, ranks = [], set()
    for i in range(60):
        if name in ADAPTIVE and i == 30:
            stepper.param_groups[0]["tau"] = 0.3
        losses.append(float(stepper.step(p.closure)))
        for layer in p.layers:
            state, (m, n), r = stepper.state[layer.S], layer.matrix_shape, layer.rank
            ranks.add(r)
            shapes = {"K": (m, r), "L": (n, r), "S": (r, r)}
            for flow in stepper.flows:
                assert state[flow]["first"].shape == shapes[flow]
                assert ("second" in state[flow]) == (rule == "adam")
                assert rule == "momentum" or bool((state[flow]["second"] >= 0).all())
    assert losses[29] < (0.8 if transport == "project" else 0.9) * losses[0]
    assert losses[-1] < losses[0]
    assert (len(ranks) > 2) == (name in ADAPTIVE)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("name", EVERY)
def test_interrupted_training_continues_exactly(name, inner_steps, rule, tmp_path):
    """state_dict of model and integrator, with changed ranks and in mid-cycle, through weights_only=True."""

    def fresh():
        torch.manual_seed(0)
        p = problem("mlp")
        return p, integrator(name, p.model, lr=0.05, tau=0.1, optimizer=rule, inner_steps=inner_steps)

    p, stepper = fresh()
    for _ in range(7):
        stepper.step(p.closure)
    torch.save({"model": p.model.state_dict(), "integrator": stepper.state_dict()}, tmp_path / "checkpoint.pt")
    for _ in range(7):
        stepper.step(p.closure)

    resumed, again = fresh()
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again.load_state_dict(checkpoint["integrator"])
    resumed.model.load_state_dict(checkpoint["model"])
    for _ in range(7):
        again.step(resumed.closure)
    for (key, a), b in zip(p.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", ["abc_psi", "aug_bug"])
def test_momentum_at_full_rank_is_dense_momentum(name, double):
    """The moments go with the basis, into its new directions too: at rank n = min(m, n), nothing of them is lost."""
    m, n = 40, 30
    Y0, A = random_matrix(m, n, torch.linspace(2, 1, n)), torch.randn(m, n)
    layer, eye, dense = matrix_layer(Y0), torch.eye(n), torch.nn.Parameter(Y0.dense())
    stepper = integrator(name, layer, lr=0.02, optimizer="momentum", tau=0.0)
    plain = torch.optim.SGD([dense], lr=0.02, momentum=0.9)
    for _ in range(30):
        stepper.step(lambda: 0.5 * (layer(eye).mT - A).square().sum())
        plain.zero_grad()
        (0.5 * (dense - A).square().sum()).backward()
        plain.step()
        assert (layer.weight - dense).norm() <= 1e-9


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_rank_keeps_to_its_bounds(name):
    p = problem("mlp", rank=3)
    stepper = integrator(name, p.model, tau=0.0, max_rank=3)
    stepper.step(p.closure)
    assert [layer.rank for layer in p.layers] == [3, 3, 3]
    stepper.param_groups[0].update(tau=0.99, min_rank=2)
    stepper.step(p.closure)
    assert [layer.rank for layer in p.layers] == [2, 2, 2]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_two_thousand_float32_steps_do_not_wear_the_bases(name):
    p = problem("mlp", rank=4)
    stepper = integrator(name, p.model, lr=0.02, tau=0.02)
    for _ in range(2000):
        stepper.step(p.closure)
    assert max(orthogonality_drift(p.model).values()) < 2e-6
