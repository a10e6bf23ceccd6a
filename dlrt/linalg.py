"""Linear algebra of the integrators: the one place that orthonormalises, augments and truncates.

Letters: m outputs, n inputs, r rank, b batch. Pure functions of tensors; nothing here knows of layers or networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from dlrt import gram
from dlrt.errors import Divergence
from dlrt.factors import Factors


@contextmanager
def plain() -> Iterator[None]:
    """Within: Householder QR and SVD throughout, the oracle of the fast factorisations of `dlrt.gram`."""
    before, gram.enabled = gram.enabled, False
    try:
        yield
    finally:
        gram.enabled = before


def beside(U: Tensor, new: Tensor) -> Tensor:
    """[U, Ũ] (m, r + k), stored by columns, as new bases and thin products are."""
    return torch.cat([U.mT, new.mT]).mT


def orthonormalize(X: Tensor) -> Tensor:
    """Orthonormal basis (m, r) of the columns of X (m, r), r ≤ m."""
    Q = gram.cholesky_qr(X, _resolved(X.dtype) * torch.linalg.vector_norm(X))
    Q = Q if Q is None else gram.corrected(Q)
    return torch.linalg.qr(X).Q if Q is None else Q


def complement(U: Tensor, D: Tensor) -> Tensor:
    """Orthonormal basis Ũ (m, k) of range((I − U Uᵀ) D), k ≤ min(r, m − rank U): the basis augmentation.

    Only directions of (I − U Uᵀ) D above ε‖D‖ are kept (ε = 100 machine epsilons), so that a D of low rank, as
    every batch smaller than r gives, adds no arbitrary directions and `[U, Ũ]` stays orthonormal.

    Args:
        U: (m, r₀), orthonormal columns.
        D: (m, r), the displacement of the K- or L-step.
    """
    free, size = U.shape[0] - U.shape[1], torch.linalg.vector_norm(D)
    # A direction just above the floor carries up to eps/ε of U: each way projects twice.
    if D.shape[1] <= free and bool(size > 0):
        W = _project_out(U, D)
        for floor, dtype in ((1e-3, D.dtype), (_resolved(D.dtype), torch.float64)):
            Q = gram.cholesky_qr(W, floor * size, dtype)
            Q = Q if Q is None else gram.corrected(_project_out(U, Q))
            if Q is not None:
                return Q
    return torch.linalg.qr(_project_out(U, _independent(U, D, free))).Q


def _resolved(dtype: torch.dtype) -> float:
    """Smallest pivot, relative to the norm, that is above ε and that Cholesky QR in float64 resolves."""
    return max(100 * torch.finfo(dtype).eps, 1e-6)


def _independent(U: Tensor, D: Tensor, free: int) -> Tensor:
    """Orthonormal basis of the at most `free` directions of (I − U Uᵀ) D above ε‖D‖, by Householder QR and SVD."""
    largest = D.abs().max()
    if free == 0 or not bool(largest > 0):
        return U[:, :0]
    D = D / largest  # a norm of squares over- or underflows long before D does
    Q, R = torch.linalg.qr(_project_out(U, D))
    floor = 100 * torch.finfo(D.dtype).eps * torch.linalg.matrix_norm(D)
    if R.shape[1] > free or bool((R.diagonal().abs() <= floor).any()):
        A, sigma, _ = svd(R)
        Q = Q @ A[:, : min(free, int((sigma > floor).sum()))]
    return Q


def _project_out(U: Tensor, X: Tensor) -> Tensor:
    return torch.addmm(X.mT, X.mT @ U, U.mT, alpha=-1).mT  # X − U UᵀX, stored by columns


def svd(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thin SVD `A, σ, Bᵀ` of a small X, computed in float64.

    In float32 the divide and conquer algorithm may fail, or complain, on finite cores with many equal singular values,
    as every start from an equal spectrum gives; where it fails in float64 too, the eigenvalues of XᵀX serve.

    Raises:
        Divergence: X is not finite.
    """
    if not bool(X.isfinite().all()):
        raise Divergence("the coefficients are not finite: lower the learning rate")
    try:
        result = torch.linalg.svd(X.double(), full_matrices=False)
    except torch.linalg.LinAlgError:
        result = _svd_by_eigenvalues(X.double())
    A, sigma, Bt = (x.to(X.dtype) for x in result)
    return A, sigma, Bt


def _svd_by_eigenvalues(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SVD whose smallest singular values are right to 1e-8 ‖X‖."""
    k = min(X.shape)
    B = torch.linalg.eigh(X.mT @ X).eigenvectors.flip(1)[:, :k]
    A, R = torch.linalg.qr(X @ B)  # X B has orthogonal columns A σ; QR completes A where σ is 0
    sign = torch.where(R.diagonal() < 0, -1.0, 1.0)
    return A * sign, R.diagonal().abs(), B.mT


def truncation_rank(sigma: Tensor, tau: float, min_rank: int = 1, max_rank: int | None = None) -> int:
    """Smallest r₁ with ‖(σ_{r₁+1}, …)‖₂ ≤ τ‖σ‖₂ (abc-PSI, Algorithm 4.1), within [min_rank, max_rank] and len(σ).

    Args:
        sigma: (k,), singular values in descending order; all zero gives `min_rank`.
    """
    energy = sigma.double().square().flip(0).cumsum(0).flip(0)  # energy[i] = Σ_{j ≥ i} σ_j²
    rank = int((energy > tau**2 * energy[0]).sum())
    upper = len(sigma) if max_rank is None else min(max_rank, len(sigma))
    return max(min(rank, upper), min(min_rank, upper))


def truncate(Y: Factors, tau: float | None, min_rank: int = 1, max_rank: int | None = None) -> Factors:
    """Y with its rank reduced to what the tolerance τ leaves; its core becomes diagonal, σ descending.

    Args:
        Y: U (m, k) and V (n, l) orthonormal, S (k, l).
        tau: relative tolerance in [0, 1); None keeps `max_rank` singular values, whatever their size.
    """
    A, sigma, B = _leading_triplets(Y.S, partial(_rank, tau=tau, min_rank=min_rank, max_rank=max_rank))
    return Factors(polish(Y.U @ A), torch.diag(sigma), polish(Y.V @ B))


def truncate_product(
    U: Tensor, L: Tensor, tau: float | None, min_rank: int = 1, max_rank: int | None = None
) -> Factors:
    """U Lᵀ truncated as by `truncate`, for U (m, k) orthonormal and any L (n, k)."""
    A, sigma, B = _leading_triplets(L, partial(_rank, tau=tau, min_rank=min_rank, max_rank=max_rank))
    return Factors(polish(U @ B), torch.diag(sigma), polish(A))


def _rank(sigma: Tensor, tau: float | None, min_rank: int, max_rank: int | None) -> int:
    if tau is None:
        return len(sigma) if max_rank is None else min(max_rank, len(sigma))
    return truncation_rank(sigma, tau, min_rank, max_rank)


def _leading_triplets(X: Tensor, choose: Callable[[Tensor], int]) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular triplets A (n, r₁), σ (r₁,), B (k, r₁) of X (n, k), r₁ = choose(all σ, descending)."""
    triplets = None if X.dtype == torch.float64 else gram.leading_triplets(X, choose)
    if triplets is None:
        Q, R = torch.linalg.qr(X) if X.shape[0] > X.shape[1] else (None, X)
        A, sigma, Bt = svd(R)
        rank = choose(sigma)
        A = A[:, :rank] if Q is None else Q @ A[:, :rank]
        triplets = A, sigma[:rank], Bt[:rank].mT
    A, sigma, B = (x.to(X.dtype) for x in triplets)
    return A, sigma, B


def polish(Q: Tensor) -> Tensor:
    """The nearest orthonormal basis to a nearly orthonormal Q (m, r), by one Newton–Schulz step: error e becomes e².

    Rotating a basis by a float32 orthogonal factor costs up to 1e-7 of orthogonality, every step anew: without this
    the rotations of 10,000 steps add up. A wide basis whose error is still that of rounding is left as it is.
    """
    if Q.shape[1] >= 64 and _orthogonal(Q):
        return Q
    return torch.addmm(Q, Q, Q.mT @ Q, beta=1.5, alpha=-0.5)


def _orthogonal(Q: Tensor) -> bool:
    """Whether (QᵀQ − I) w = 0 to rounding, for w = (1, …, 1), which all pairs of columns enter."""
    ones = Q.new_ones(Q.shape[1], 1)
    return bool((Q.mT @ (Q @ ones) - ones).abs().max() < 16 * torch.finfo(Q.dtype).eps)
