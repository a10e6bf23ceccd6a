"""The fast factorisations against the plain ones: as good, or not taken."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from problems import NETS, dense_net

import dlrt
from dlrt import gram
from dlrt.linalg import complement, orthonormalize, plain, polish, truncate, truncate_product

ADAPTIVE = [name for name in sorted(dlrt.INTEGRATORS) if dlrt.INTEGRATORS[name].rank_adaptive]


def conditioned(m, r, exponent, dtype=torch.float64):
    """(m, r) with singular values from 1 to 10^exponent."""
    A, B = (torch.linalg.qr(torch.randn(k, r, dtype=torch.float64)).Q for k in (m, r))
    return (A @ torch.diag(torch.logspace(0, exponent, r, dtype=torch.float64)) @ B.mT).to(dtype)


def deviation(Q):
    """max |QᵀQ − I|, in float64."""
    Q = Q.double()
    return float((Q.mT @ Q - torch.eye(Q.shape[1], dtype=torch.float64)).abs().max())


def projector(Q):
    return Q.double() @ Q.double().mT


@pytest.mark.parametrize("r", [12, 130])  # one product, and the lower triangle in blocks
def test_cholesky_qr_spans_the_columns(r):
    X = conditioned(300, r, -3)
    Q = gram.cholesky_qr(X, 1e-6)
    assert deviation(Q) < 1e-9
    torch.testing.assert_close(projector(Q), projector(torch.linalg.qr(X).Q), rtol=0, atol=1e-9)


@pytest.mark.parametrize("X", [conditioned(60, 9, -9), torch.ones(60, 9), torch.full((60, 9), float("nan"))])
def test_cholesky_qr_declines_what_it_cannot_do(X):
    assert gram.cholesky_qr(X, 1e-6 * torch.linalg.matrix_norm(X)) is None


@pytest.mark.parametrize("shape", [(8, 8), (90, 8), (300, 140)])
@pytest.mark.parametrize("exponent", [-1, -4])  # A as it comes, and orthonormalised again
def test_leading_triplets_are_those_of_the_svd(shape, exponent):
    X = conditioned(*shape, exponent, torch.float32)
    rank = shape[1] - 2
    A, sigma, B = gram.leading_triplets(X, lambda s: len(s) - 2)
    expected = torch.linalg.svd(X.double(), full_matrices=False)
    torch.testing.assert_close(sigma.double(), expected.S[:rank], rtol=1e-4, atol=1e-7)
    best = expected.U[:, :rank] * expected.S[:rank] @ expected.Vh[:rank]
    torch.testing.assert_close((A * sigma.to(A)) @ B.to(A).mT, best.float(), rtol=0, atol=2e-6)
    assert deviation(B) < 1e-12
    assert deviation(A) < 1e-4


@pytest.mark.parametrize(
    "X", [torch.randn(4, 7), conditioned(9, 9, -8, torch.float32), torch.full((5, 5), float("nan")), torch.zeros(5, 5)]
)
def test_leading_triplets_decline_what_they_cannot_do(X):
    assert gram.leading_triplets(X, len) is None


def test_within_plain_nothing_goes_through_gram_matrices():
    X = torch.randn(20, 4)
    with plain():
        assert gram.cholesky_qr(X, 0.0) is None
        assert gram.leading_triplets(X, len) is None
        with plain():
            pass
        assert not gram.enabled
    assert gram.cholesky_qr(X, 0.0) is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [0, -2, -4, -8, -12])
def test_fast_and_plain_augmentation_agree(exponent, dtype):
    """Both span [U, D] to rounding, whichever way they go."""
    U, D = orthonormalize(torch.randn(150, 10, dtype=dtype)), conditioned(150, 10, exponent, dtype)
    fast = complement(U, D)
    with plain():
        slow = complement(U, D)
    eps = torch.finfo(dtype).eps
    for new in (fast, slow):
        basis = torch.cat([U, new], 1)
        assert deviation(basis) < 20 * eps
        D64 = D.double()
        assert (D64 - projector(basis) @ D64).norm() < 400 * eps * D64.norm()


@pytest.mark.parametrize("t", [1.1, 1.2, 1.3])
def test_an_ill_conditioned_displacement_with_large_pivots_is_no_trap(t):
    """Kahan's matrix: the diagonal of R says nothing of its smallest singular value."""
    r = 60
    R = torch.diag(torch.tensor(t).sin() ** torch.arange(r)) @ (
        torch.eye(r) - torch.tensor(t).cos() * torch.ones(r, r).triu(1)
    )
    X = (orthonormalize(torch.randn(200, r)).double() @ R.double()).float()
    U = orthonormalize(torch.randn(200, r))
    assert deviation(torch.cat([U, complement(U, X)], 1)) < 2e-6
    assert deviation(orthonormalize(X)) < 2e-6


def test_a_wide_basis_is_polished_for_the_error_of_any_pair_of_columns():
    Q = orthonormalize(torch.randn(300, 80))
    assert polish(Q) is Q
    for i, j in ((1, 79), (40, 40), (3, 5)):
        bent = Q.clone()
        bent[:, i] += 1e-5 * Q[:, j]
        assert deviation(polish(bent)) < 2e-6


def test_a_core_at_the_end_of_the_range_of_float32():
    U, V = (torch.linalg.qr(torch.randn(k, 8)).Q for k in (20, 15))
    for size in (1e-39, 1e-33, 1e33):
        cut = truncate(dlrt.Factors(U, torch.randn(8, 8) * size, V), 0.1)
        assert max(map(deviation, (cut.U, cut.V))) < 1e-5


@pytest.mark.parametrize(("precision", "clip"), [("high", 1.0), ("medium", None)])
@pytest.mark.parametrize("name", sorted(dlrt.INTEGRATORS))
def test_bases_are_orthonormal_whatever_the_precision_of_the_loss(name, precision, clip):
    net, x, y = dense_net("mlp")
    model = dlrt.factorize(net, rank=3)
    stepper = dlrt.INTEGRATORS[name](model, lr=0.05, max_grad_norm=clip)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                stepper.step(lambda: F.cross_entropy(model(x).float(), y))
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
    for layer in dlrt.low_rank_layers(model).values():
        assert layer.S.dtype == torch.float32
        assert layer.orthogonality_drift() < 2e-6


@pytest.mark.parametrize("tau", [0.02, 0.2])
def test_fast_and_plain_truncation_agree(tau):
    """In float32: the same rank, and the same matrix to rounding, as the plain truncation in float64."""
    U, V = (torch.linalg.qr(torch.randn(k, 16, dtype=torch.float64)).Q for k in (70, 50))
    S = conditioned(16, 16, -3)
    Y = dlrt.Factors(U, S, V)
    with plain():
        best = truncate(Y, tau)
    single = dlrt.Factors(*(x.float() for x in Y))
    for cut in (truncate(single, tau), truncate_product(single.U, (V @ S.mT).float(), tau)):
        assert cut.S.shape == best.S.shape
        torch.testing.assert_close(cut.dense().double(), best.dense(), rtol=0, atol=3e-6)
        assert max(map(deviation, (cut.U, cut.V))) < 1e-6


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", sorted(dlrt.INTEGRATORS))
def test_fast_and_plain_steps_agree_to_rounding(name, kind, double):
    net, x, y = dense_net(kind)
    model = dlrt.factorize(net, rank=3)
    twin = copy.deepcopy(model)
    options = {"lr": 0.05, **({"tau": 0.05} if name in ADAPTIVE else {})}
    dlrt.INTEGRATORS[name](model, **options).step(lambda: F.cross_entropy(model(x), y))
    with plain():
        dlrt.INTEGRATORS[name](twin, **options).step(lambda: F.cross_entropy(twin(x), y))
    for a, b in zip(dlrt.low_rank_layers(model).values(), dlrt.low_rank_layers(twin).values(), strict=True):
        assert a.rank == b.rank
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-10)


@pytest.mark.parametrize("steps", [500, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rank", [8, 72])  # polished at every step, and only when its error asks for it
@pytest.mark.parametrize("name", ADAPTIVE)
def test_bases_stay_orthonormal_in_float32(name, rank, steps):
    if rank == 72 and steps == 500:
        steps = 100
    model = dlrt.factorize(torch.nn.Sequential(torch.nn.Linear(160, 150, bias=False)), rank=rank, init="orthonormal")
    stepper, (layer,) = dlrt.INTEGRATORS[name](model, lr=0.05), dlrt.low_rank_layers(model).values()
    target = torch.randn(150, 160) / 12
    for _ in range(steps):
        x = torch.randn(80, 160)
        stepper.step(lambda x=x: F.mse_loss(model(x), x @ target.T) * 50)
        assert layer.orthogonality_drift() < 5e-6
    assert layer.rank == rank
