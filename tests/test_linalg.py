from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from problems import problem

import dlrt
from dlrt.factors import Factors
from dlrt.linalg import complement, polish, svd, truncate, truncation_rank

M, R = 200, 12


def hard_displacements(U):
    """Displacements D that break a naive orthonormalisation of [U, D]."""
    (m, r), dtype = U.shape, U.dtype
    G = torch.randn(m, r, dtype=dtype)
    A, _, Bt = torch.linalg.svd(G, full_matrices=False)
    return {
        "random": G,
        "condition 1e8": A @ torch.diag(torch.logspace(0, -8, r, dtype=dtype)) @ Bt,
        "rank r/2": torch.randn(m, r // 2, dtype=dtype) @ torch.randn(r // 2, r, dtype=dtype),
        "zero": torch.zeros(m, r, dtype=dtype),
        "inside U": U @ torch.randn(r, r, dtype=dtype),
        "inside U but for noise": U @ torch.randn(r, r, dtype=dtype) + 1e-4 * G,
        "duplicates": G[:, :1].expand(m, r).contiguous(),
        "tiny": 1e-18 * G,
        "nearly denormal": 1e-35 * (U @ torch.randn(r, r, dtype=dtype)),
        "huge": 1e25 * G,
        "half of the columns zero": torch.cat([G[:, : r // 2], torch.zeros(m, r - r // 2, dtype=dtype)], 1),
    }


@pytest.mark.parametrize("kind", hard_displacements(torch.eye(M, R)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_complement_is_orthonormal_and_spans_the_displacement(kind, dtype):
    U = torch.linalg.qr(torch.randn(M, R, dtype=torch.float64))[0].to(dtype)
    D = hard_displacements(U)[kind]
    new = complement(U, D)
    eps = torch.finfo(dtype).eps
    Q = torch.cat([U, new], 1).double()
    assert (Q.mT @ Q - torch.eye(Q.shape[1], dtype=torch.float64)).abs().max() < 20 * eps
    D = D.double()
    outside = D - Q @ (Q.mT @ D)
    # dropped directions are below ε‖D‖ each, ε = 100 machine epsilons
    assert outside.norm() <= 100 * eps * D.norm() * R**0.5
    expected = {
        "zero": 0,
        "rank r/2": R // 2,
        "duplicates": 1,
        "half of the columns zero": R // 2,
        "random": R,
        "huge": R,
        "tiny": R,
    }
    if kind in expected:
        assert new.shape[1] == expected[kind]


def test_complement_never_exceeds_the_space():
    U = torch.linalg.qr(torch.randn(10, 7))[0]
    assert complement(U, torch.randn(10, 7)).shape == (10, 3)
    assert complement(torch.eye(10), torch.randn(10, 7)).shape == (10, 0)


@pytest.mark.parametrize(
    ("sigma", "tau", "bounds", "rank"),
    [
        ([3.0, 4.0, 0.0], 0.0, {}, 2),
        ([4.0, 3.0], 0.6, {}, 1),  # ‖(3)‖ ≤ 0.6 · 5: the bound itself is allowed
        ([4.0, 3.0], 0.5999, {}, 2),
        ([1.0, 1.0, 1.0, 1.0], 0.71, {}, 2),
        ([1.0, 1.0, 1.0, 1.0], 0.71, {"min_rank": 3}, 3),
        ([1.0, 1.0, 1.0, 1.0], 0.1, {"max_rank": 2}, 2),
        ([1.0, 1.0], 0.9, {"min_rank": 5}, 2),
        ([0.0, 0.0, 0.0], 0.1, {}, 1),
        ([0.0, 0.0, 0.0], 0.1, {"min_rank": 2}, 2),
        ([1e-30, 1e-31], 0.05, {}, 2),
    ],
)
def test_truncation_rank(sigma, tau, bounds, rank):
    sigma = sorted(sigma, reverse=True)
    assert truncation_rank(torch.tensor(sigma), tau, **bounds) == rank


@pytest.mark.parametrize("tau", [0.01, 0.1, 0.5])
def test_truncation_error_is_within_the_tolerance_and_no_smaller_rank_is(tau):
    torch.set_default_dtype(torch.float64)
    U, V = (torch.linalg.qr(torch.randn(k, 8))[0] for k in (20, 15))
    Y = Factors(U, torch.randn(8, 8) * torch.logspace(0, -3, 8), V)
    cut, full = truncate(Y, tau), Y.dense()
    rank = len(cut.S)
    assert (full - cut.dense()).norm() <= tau * full.norm()
    smaller = truncate(Y, None, max_rank=rank - 1)
    assert (full - smaller.dense()).norm() > tau * full.norm()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_svd_without_lapacks_divide_and_conquer(shape, monkeypatch, double):
    X = torch.randn(shape)
    X[:, 0] = 0
    expected = torch.linalg.svdvals(X)

    def failing(*args, **kwargs):
        raise torch.linalg.LinAlgError("failed to converge: too many repeated singular values")

    monkeypatch.setattr(torch.linalg, "svd", failing)
    A, sigma, Bt = svd(X)
    torch.testing.assert_close(sigma, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close((A * sigma) @ Bt, X, rtol=0, atol=1e-12)
    for Q in (A, Bt.mT):
        torch.testing.assert_close(Q.mT @ Q, torch.eye(4 if 4 in shape else 5))


@pytest.mark.parametrize("name", ["abc_psi", "aug_bug", "parallel_bug"])
def test_a_step_is_the_same_when_svd_raises(name, monkeypatch, double):
    p = problem("mlp")
    twin = copy.deepcopy(p.model)
    x, y = torch.randn(20, 12), torch.randint(0, 4, (20,))

    def failing(*args, **kwargs):
        raise torch.linalg.LinAlgError("failed to converge")

    for model in (p.model, twin):
        stepper = dlrt.INTEGRATORS[name](model, lr=0.1, tau=0.1)
        stepper.step(lambda model=model: F.cross_entropy(model(x), y))
        monkeypatch.setattr(torch.linalg, "svd", failing)
    for a, b in zip(p.layers, dlrt.low_rank_layers(twin).values(), strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_svd_of_a_non_finite_core_is_divergence(value):
    X = torch.eye(3)
    X[1, 1] = value
    with pytest.raises(dlrt.Divergence, match="not finite"):
        svd(X)


def test_polish_squares_the_error():
    Q = torch.linalg.qr(torch.randn(50, 6, dtype=torch.float64))[0] @ (torch.eye(6) + 1e-4 * torch.randn(6, 6)).double()
    error = (Q.mT @ Q - torch.eye(6)).abs().max()
    polished = polish(Q)
    assert (polished.mT @ polished - torch.eye(6)).abs().max() < 10 * error**2
