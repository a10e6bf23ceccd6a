"""The textbook integrators against closed forms and the papers' theorems, in float64."""

import ast
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlrt import textbook

Factors = list[tuple[Tensor, Tensor, Tensor]]
FIXED = ["psi", "bc_psi", "bug"]
ADAPTIVE = ["abc_psi", "aug_bug", "parallel_bug"]
ALL = FIXED + ADAPTIVE
SIGMAS_MIN = [1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factors(m: int, n: int, spectrum: list[float], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    r = len(spectrum)
    U, V = (torch.linalg.qr(random(k, r, seed=seed + i)).Q for i, k in enumerate((m, n)))
    return U, torch.diag(torch.tensor(spectrum, dtype=torch.float64)), V


def dense(layer: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    U, S, V = layer
    return U @ S @ V.T


def skew(k: int, seed: int) -> Tensor:
    A = random(k, k, seed=seed)
    return (A - A.T) / torch.linalg.matrix_norm(A - A.T, 2)


def linear(A: Tensor, B: Tensor) -> Callable[[list[Tensor]], list[Tensor]]:
    """The gradient of Ẏ = A Y + Y Bᵀ."""
    return lambda Y: [-(A @ Y[0] + Y[0] @ B.T)]


def span(*blocks: Tensor) -> Tensor:
    """Projector onto the range of the blocks' columns."""
    B = torch.cat(blocks, 1)
    return B @ torch.linalg.pinv(B)


def tangent(layer: tuple[Tensor, Tensor, Tensor], G: Tensor) -> Tensor:
    """P(Y) G, the projection onto the tangent space at Y."""
    PU, PV = span(layer[0]), span(layer[2])
    return PU @ G + G @ PV - PU @ G @ PV


def assert_orthonormal(layer: tuple[Tensor, Tensor, Tensor], atol: float = 1e-13) -> None:
    U, S, V = layer
    eye = torch.eye(len(S), dtype=S.dtype)
    assert S.shape == eye.shape
    for basis in (U, V):
        torch.testing.assert_close(basis.T @ basis, eye, rtol=0, atol=atol)


class Quadratic:
    """ℓ(Y) = ½ ‖W ∘ (Y − A)‖², whose gradient has the Lipschitz constant c = max W²."""

    def __init__(self, A: Tensor, W: Tensor | float = 1.0) -> None:
        self.A, self.W = A, torch.as_tensor(W, dtype=A.dtype)

    @property
    def c(self) -> float:
        return float((self.W**2).max())

    def loss(self, Y: Tensor) -> float:
        return float((self.W * (Y - self.A)).square().sum() / 2)

    def gradient(self, Y: list[Tensor]) -> list[Tensor]:
        return [self.W**2 * (Y[0] - self.A)]


@pytest.mark.parametrize("h", [1.0, 0.1])
@pytest.mark.parametrize("seed", range(5))
def test_exact_between_two_rank_r_matrices(seed: int, h: float) -> None:
    start, end = factors(12, 9, [1.0, 0.8, 0.5], seed), factors(12, 9, [1.2, 0.9, 0.6], 100 + seed)
    G = (dense(start) - dense(end)) / h
    errors = {}
    for name in ALL:
        [layer] = textbook.step(name, [start], lambda _: [G], h)
        errors[name] = float((dense(layer) - dense(end)).norm() / dense(end).norm())
    assert errors.pop("parallel_bug") > 1e-6  # its core has no block for ŨᵀGṼ
    assert max(errors.values()) <= 3e-14, errors


def test_untruncated_parallel_bug_is_a_step_along_the_tangent_space() -> None:
    start, G = factors(13, 8, [1.0, 0.3, 1e-3], 1), random(13, 8, seed=2)
    [layer] = textbook.step("parallel_bug", [start], lambda _: [G], 0.3, tau=0.0)
    assert len(layer[1]) == 6
    torch.testing.assert_close(dense(layer), dense(start) - 0.3 * tangent(start, G), rtol=0, atol=1e-13)


def exact_flows(name: str, U0: Tensor, S0: Tensor, V0: Tensor, A: Tensor, B: Tensor, h: float) -> Tensor:
    """The untruncated Y(t₁) of Ẏ = A Y + Y Bᵀ, for which the K-, L- and S-flows have exponentials for solutions."""

    def exp(M: Tensor) -> Tensor:
        return torch.matrix_exp(h * M)

    def L_step(U: Tensor, L: Tensor) -> Tensor:
        return exp(B) @ L @ exp(U.T @ A.T @ U)

    def S_step(U: Tensor, S: Tensor, V: Tensor, time: int = 1) -> Tensor:
        return exp(time * U.T @ A @ U) @ S @ exp(time * V.T @ B.T @ V)

    K1, L1 = exp(A) @ U0 @ S0 @ exp(V0.T @ B.T @ V0), L_step(U0, V0 @ S0.T)
    U1, R = torch.linalg.qr(torch.cat([U0, K1], 1) if name in ("abc_psi", "aug_bug") else K1)
    V1 = torch.linalg.qr(torch.cat([V0, L1], 1) if name == "aug_bug" else L1).Q
    if name == "psi":
        return U1 @ L_step(U1, V0 @ S_step(U1, R, V0, time=-1).T).T
    if name in ("bc_psi", "abc_psi"):
        return U1 @ L_step(U1, V0 @ S0.T @ U0.T @ U1).T
    if name in ("bug", "aug_bug"):
        return U1 @ S_step(U1, U1.T @ U0 @ S0 @ V0.T @ V1, V1) @ V1.T
    outside_U, outside_V = span(U0, K1) - span(U0), span(V0, L1) - span(V0)
    return U0 @ S_step(U0, S0, V0) @ V0.T + outside_U @ K1 @ V0.T + U0 @ L1.T @ outside_V


@pytest.mark.parametrize("name", ALL)
def test_substeps_converge_to_exact_flows(name: str) -> None:
    A, B, h = skew(9, seed=3), skew(7, seed=4), 0.5
    start = factors(9, 7, [1.0, 0.5, 0.2], seed=5)
    exact = exact_flows(name, *start, A, B, h)
    coarse, fine = (dense(textbook.step(name, [start], linear(A, B), h, tau=0.0, substeps=k)[0]) for k in (100, 200))
    assert math.log2((coarse - exact).norm() / (fine - exact).norm()) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(2 * fine - coarse, exact, rtol=0, atol=1e-4)


def error_at_end(name: str, sigma_min: float, h: float, tau: float | None) -> float:
    """Error at t = ½ of steps of size h on Ẏ = A Y + Y Bᵀ, whose solution e^{tA} Y₀ e^{tBᵀ} keeps its rank."""
    A, B, end = skew(14, 6), skew(11, 7), 0.5
    layers = [factors(14, 11, torch.logspace(0, math.log10(sigma_min), 4).tolist(), 8)]
    exact = torch.matrix_exp(end * A) @ dense(layers[0]) @ torch.matrix_exp(end * B).T
    for _ in range(round(end / h)):
        layers = textbook.step(name, layers, linear(A, B), h, tau)
    return float((dense(layers[0]) - exact).norm())


@pytest.mark.parametrize(("name", "tau"), [(n, None) for n in ALL] + [(n, 0.0) for n in ADAPTIVE])
def test_error_is_at_most_C_h_however_small_the_singular_values(name: str, tau: float | None) -> None:
    steps = [2.0**-k for k in (4, 5, 6, 7)]
    errors = {s: [error_at_end(name, s, h, tau) for h in steps] for s in SIGMAS_MIN}
    worst = [max(column) for column in zip(*errors.values(), strict=True)]
    assert all(error <= 0.6 * h for error, h in zip(worst, steps, strict=True))
    for column in (errors[1e-1], errors[1e-12], worst):  # in between, σ_min passes h² and the order is not settled
        assert math.log2(column[-2] / column[-1]) == pytest.approx(1, abs=0.2)


def promised_direction(name: str, layer: tuple[Tensor, Tensor, Tensor], G: Tensor) -> Tensor:
    """The projection of G along which the untruncated step moves, from U₀, V₀ and G alone."""
    U, _, V = layer
    PU, PV = span(U, G @ V), span(V, G.T @ U)
    return {"abc_psi": PU @ G, "aug_bug": PU @ G @ PV, "parallel_bug": tangent(layer, G)}[name]


def loss_and_bound(name: str, problem: Quadratic, hc: float, seed: int) -> tuple[float, float]:
    start, h = factors(10, 8, [2.0, 1.0, 0.1], seed), hc / problem.c
    [G] = problem.gradient([dense(start)])
    [layer] = textbook.step(name, [start], problem.gradient, h, tau=0.0)
    bound = problem.loss(dense(start)) - (1 - hc / 2) * h * float(promised_direction(name, start, G).square().sum())
    return problem.loss(dense(layer)), bound


@pytest.mark.parametrize("hc", [0.05, 0.7, 1.3, 2.0])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_descent_bound_before_truncation(name: str, hc: float) -> None:
    """Theorem 5.8 and its analogues: ℓ(Ŷ₁) ≤ ℓ(Y₀) − (1 − h c/2) h ‖projected G‖²."""
    for seed in range(20):
        problem = Quadratic(random(10, 8, seed=seed), random(10, 8, seed=1000 + seed))
        loss, bound = loss_and_bound(name, problem, hc, seed)
        assert loss <= bound + 1e-11
        isotropic = Quadratic(random(10, 8, seed=seed), 1.7)
        loss, bound = loss_and_bound(name, isotropic, hc, seed)
        assert loss == pytest.approx(bound, abs=1e-11)


def test_the_larger_bound_of_abc_psi_is_false_for_aug_bug() -> None:
    problem, start, h = Quadratic(random(30, 20, seed=0)), factors(30, 20, [1.0, 0.5], 1), 0.5
    [G] = problem.gradient([dense(start)])
    bound = (1 - h / 2) * h * float(promised_direction("abc_psi", start, G).square().sum())
    decrease = {
        name: problem.loss(dense(start)) - problem.loss(dense(layer))
        for name in ("abc_psi", "aug_bug")
        for layer in textbook.step(name, [start], problem.gradient, h, tau=0.0)
    }
    assert decrease["abc_psi"] == pytest.approx(bound)
    assert decrease["aug_bug"] < 0.9 * bound


@pytest.mark.parametrize(("hc", "rises"), [(1.5, False), (1.6, False), (1.65, True), (1.9, True)])
def test_psi_raises_the_loss_near_the_stability_limit(hc: float, rises: bool) -> None:
    """With the target in the current bases, K, S and L multiply the error by 1 − hc, 1 + hc and 1 − hc."""
    U, S, V = factors(10, 8, [2.0, 1.0], 3)
    problem = Quadratic(U @ torch.tensor([[1.0, 0.3], [0.2, 3.0]], dtype=torch.float64) @ V.T)
    before = problem.loss(U @ S @ V.T)
    after = {n: problem.loss(dense(textbook.step(n, [(U, S, V)], problem.gradient, hc)[0])) for n in ALL}
    assert after["psi"] == pytest.approx(before * ((1 - hc) ** 2 * (1 + hc)) ** 2)
    assert (after["psi"] > before) is rises
    assert after["abc_psi"] == pytest.approx(before * (1 - hc) ** 2)


def test_fixed_rank_bug_can_raise_the_loss_at_a_small_step() -> None:
    """Its bases turn towards e₂, where A is −100; (3.2c) starts from a projection that has lost part of Y₀."""
    problem = Quadratic(torch.tensor([[1.0, 10.0], [10.0, -100.0]], dtype=torch.float64))
    e1, one = torch.eye(2, dtype=torch.float64)[:, :1], torch.ones(1, 1, dtype=torch.float64)
    before = problem.loss(e1 @ e1.T)
    after = {n: problem.loss(dense(textbook.step(n, [(e1, one, e1)], problem.gradient, 0.05)[0])) for n in ALL}
    assert after["bug"] > before + 1
    untruncated = textbook.step("aug_bug", [(e1, one, e1)], problem.gradient, 0.05, tau=0.0)
    assert problem.loss(dense(untruncated[0])) < before


def no_gradient(Y: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(y) for y in Y]


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize(
    ("spectrum", "tau", "max_rank", "rank"),
    [
        ([8.0, 4.0, 2.0, 1.0], 0.0, None, 4),
        ([8.0, 4.0, 2.0, 1.0], 0.108, None, 4),  # 1 / √85 = 0.1085
        ([8.0, 4.0, 2.0, 1.0], 0.109, None, 3),
        ([8.0, 4.0, 2.0, 1.0], 0.242, None, 3),  # √5 / √85 = 0.2425
        ([8.0, 4.0, 2.0, 1.0], 0.243, None, 2),
        ([8.0, 4.0, 2.0, 1.0], 0.99, None, 1),
        ([8.0, 4.0, 2.0, 1.0], 0.0, 2, 2),
        ([8.0, 4.0, 2.0, 1.0], 0.243, 3, 2),
        ([0.0, 0.0, 0.0], 0.0, None, 1),
        ([8.0, 4.0, 2.0, 1.0], None, 2, 4),
    ],
)
def test_truncation_rule(name: str, spectrum: list[float], tau: float | None, max_rank: int | None, rank: int) -> None:
    start = factors(12, 9, spectrum, 1)
    [layer] = textbook.step(name, [start], no_gradient, 0.1, tau, max_rank)
    assert layer[0].shape == (12, rank) and layer[2].shape == (9, rank)
    torch.testing.assert_close(layer[1].diagonal(), torch.tensor(spectrum[:rank], dtype=torch.float64))


@pytest.mark.parametrize("name", ADAPTIVE)
def test_rank_grows_to_a_target_and_shrinks_to_one(name: str) -> None:
    """ℓ = ½‖Y − A‖²: the rank follows that of A, from below and from above."""
    for spectrum, rank in ([1.0, 1.0], 5), ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], 2):
        layers = [factors(14, 11, spectrum, 2)]
        target = dense(factors(14, 11, torch.linspace(3, 1, rank).tolist(), 50))
        for _ in range(60):
            layers = textbook.step(name, layers, Quadratic(target).gradient, 0.5, tau=1e-3)
        assert len(layers[0][1]) == rank
        torch.testing.assert_close(dense(layers[0]), target, rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", FIXED)
def test_fixed_rank_methods_ignore_tau_and_max_rank(name: str) -> None:
    start, problem = [factors(12, 9, [1.0, 0.1, 0.01], 1)], Quadratic(random(12, 9, seed=2))
    plain = textbook.step(name, start, problem.gradient, 0.1)
    [layer] = textbook.step(name, start, problem.gradient, 0.1, tau=0.5, max_rank=1)
    assert len(layer[1]) == 3
    assert torch.equal(dense(layer), dense(plain[0]))


@pytest.mark.parametrize("name", ADAPTIVE)
def test_augmentation_adds_only_directions_of_the_displacement(name: str) -> None:
    start = factors(12, 9, [1.0, 0.7, 0.4], 1)
    G = random(12, 1, seed=2) @ random(1, 9, seed=3)  # a batch of one
    [layer] = textbook.step(name, [start], lambda _: [1e-6 * G], 1e-3, tau=0.0)
    assert len(layer[1]) == 4
    assert_orthonormal(layer)


@pytest.mark.parametrize("shape", [(6, 5), (5, 9), (5, 5), (7, 4)])
@pytest.mark.parametrize("name", ALL)
def test_bases_stay_orthonormal_when_2r_exceeds_the_matrix(name: str, shape: tuple[int, int]) -> None:
    start, problem = factors(*shape, [1.0, 0.5, 0.2, 0.1], 4), Quadratic(random(*shape, seed=5))
    [layer] = textbook.step(name, [start], problem.gradient, 0.3, tau=0.0, max_rank=100)
    assert len(layer[1]) == 4 if name in FIXED else 4 <= len(layer[1]) <= min(shape)
    assert_orthonormal(layer)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_drifted_bases_do_not_outgrow_the_matrix(name: str) -> None:
    """Where U is off by 1e-4, (I − U Uᵀ) D is far above ε: the cap at m columns has to hold by itself."""
    U, S, V = factors(4, 4, [1.0, 0.5, 0.2, 0.1], 4)
    drifted = (U + 1e-4 * random(4, 4, seed=6), S, V + 1e-4 * random(4, 4, seed=7))
    G = random(4, 4, seed=5)
    [layer] = textbook.step(name, [drifted], lambda _: [G], 0.3, tau=0.0)
    assert layer[0].shape == layer[2].shape == (4, 4)
    torch.testing.assert_close(dense(layer), dense(drifted) - 0.3 * G, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_full_rank_bases_give_gradient_descent(name: str) -> None:
    start, G = factors(4, 4, [1.0, 0.5, 0.2, 0.1], 4), random(4, 4, seed=5)
    [layer] = textbook.step(name, [start], lambda _: [G], 0.3)
    torch.testing.assert_close(dense(layer), dense(start) - 0.3 * G, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ALL)
def test_a_zero_gradient_leaves_Y_unchanged(name: str) -> None:
    start = [factors(12, 9, [1.0, 0.5, 1e-9], 1), factors(4, 7, [2.0], 2)]
    for before, after in zip(start, textbook.step(name, start, no_gradient, 0.1, substeps=3), strict=True):
        torch.testing.assert_close(dense(after), dense(before), rtol=0, atol=1e-14)
        assert_orthonormal(after)


@pytest.mark.parametrize("name", ALL)
def test_float32_stays_float32(name: str) -> None:
    start = [tuple(x.float() for x in factors(12, 9, [1.0, 0.5, 0.2], 1))]
    [layer] = textbook.step(name, start, lambda Y: [Y[0] - 1], 0.1, tau=0.1)
    assert {x.dtype for x in layer} == {torch.float32}
    assert_orthonormal(layer, atol=1e-5)


class ReLUNet:
    """ℓ = ½‖Y₂ relu(Y₁ x) − target‖²; remembers the points where its gradient was taken."""

    def __init__(self) -> None:
        self.x, self.target = random(6, 40, seed=1), random(5, 40, seed=2)
        self.points: list[list[Tensor]] = []

    def gradient(self, Y: list[Tensor]) -> list[Tensor]:
        self.points.append(Y)
        Y1, Y2 = (y.clone().requires_grad_() for y in Y)
        loss = (Y2 @ torch.relu(Y1 @ self.x) - self.target).square().sum() / 2
        return list(torch.autograd.grad(loss, (Y1, Y2)))


def two_layers() -> Factors:
    return [factors(8, 6, [1.0, 0.6], 3), factors(5, 8, [1.0, 0.7, 0.3], 4)]


@pytest.mark.parametrize(
    ("name", "distinct"), {"psi": 3, "bc_psi": 2, "bug": 2, "abc_psi": 1, "aug_bug": 1, "parallel_bug": 1}.items()
)
def test_gradient_points(name: str, distinct: int) -> None:
    """One for the augmented methods, whose bases hold Y₀; the others' later points have moved in *all* layers."""
    net, start = ReLUNet(), two_layers()
    textbook.step(name, start, net.gradient, 0.01)
    moved = [[float((y - dense(s)).norm()) for y, s in zip(Y, start, strict=True)] for Y in net.points]
    assert len(moved) == (2 if name in ("bc_psi", "abc_psi") else 3)
    elsewhere = [distances for distances in moved if max(distances) > 1e-12]
    assert len(elsewhere) == distinct - 1
    assert all(min(distances) > 1e-4 for distances in elsewhere)


@pytest.mark.parametrize("name", FIXED)
def test_joint_step_is_not_the_layer_by_layer_step(name: str) -> None:
    start, net = two_layers(), ReLUNet()
    joint = textbook.step(name, start, net.gradient, 0.01)
    frozen = dense(start[1])
    [first] = textbook.step(name, start[:1], lambda Y: net.gradient([Y[0], frozen])[:1], 0.01)
    assert (dense(first) - dense(joint[0])).norm() > 1e-4


def test_bug_galerkin_step_by_hand_for_two_layers() -> None:
    """(3.2) written out once more with the second gradient at the joint projection of both layers."""
    start, net, h = two_layers(), ReLUNet(), 0.01
    first = net.gradient([dense(layer) for layer in start])
    bases = [
        (torch.linalg.qr(U @ S - h * G @ V).Q, torch.linalg.qr(V @ S.T - h * G.T @ U).Q)
        for (U, S, V), G in zip(start, first, strict=True)
    ]
    projected = [U @ U.T @ dense(s) @ V @ V.T for (U, V), s in zip(bases, start, strict=True)]
    second = net.gradient(projected)
    step = textbook.step("bug", start, net.gradient, h)
    for (U, V), Y, G, layer in zip(bases, projected, second, step, strict=True):
        torch.testing.assert_close(dense(layer), Y - h * U @ U.T @ G @ V @ V.T, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "bgu"}, r"'bgu'.*psi, bc_psi, bug, abc_psi, aug_bug, parallel_bug"),
        ({"h": 0.0}, r"h = 0\.0 must be positive"),
        ({"h": math.inf}, r"h = inf must be positive and finite"),
        ({"h": math.nan}, r"h = nan"),
        ({"tau": 1.0}, r"tau = 1\.0 must lie in \[0, 1\)"),
        ({"tau": -0.1}, r"tau = -0\.1"),
        ({"max_rank": 0}, r"max_rank = 0 must be at least 1"),
        ({"substeps": 0}, r"substeps = 0 must be at least 1"),
        ({"factors": []}, r"one \(U, S, V\) per layer"),
        ({"factors": factors(6, 5, [1.0, 0.5], 1)}, r"one \(U, S, V\) per layer"),
        ({"factors": [(torch.eye(4, 2), torch.eye(2), torch.eye(3, 1))]}, r"\(3, 1\)\]; pass \(m, r\)"),
        ({"factors": [(torch.eye(4, 3), torch.eye(3), torch.eye(2, 3))]}, r"1 <= r <= m, n"),
        ({"factors": [(torch.ones(4), torch.eye(4), torch.eye(4))]}, r"\[\(4,\), \(4, 4\)"),
        ({"gradient": lambda Y: Y[0]}, r"gradient returned shapes \[\(5,\)"),
        ({"gradient": lambda Y: [Y[0].T]}, r"gradient returned shapes \[\(5, 6\)\]"),
    ],
)
def test_bad_input_is_named(arguments: dict, message: str) -> None:
    good = {"name": "bug", "factors": [factors(6, 5, [1.0, 0.5], 1)], "gradient": no_gradient, "h": 0.1}
    with pytest.raises(ValueError, match=message):
        textbook.step(**(good | arguments))


def test_depends_on_torch_alone() -> None:
    """An oracle that shared code with the package would share its mistakes."""
    tree = ast.parse(Path(textbook.__file__).read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)
    modules = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in modules} - sys.stdlib_module_names == {"torch"}
