"""Linear algebra of the integrators: the one place that orthonormalises, augments and truncates.

Letters: m outputs, n inputs, r rank, b batch. Pure functions of tensors; nothing here knows of layers or networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dlrt.errors import Divergence
from dlrt.factors import Factors


def orthonormalize(X: Tensor) -> Tensor:
    """Orthonormal basis (m, r) of the columns of X (m, r), by Householder QR."""
    return torch.linalg.qr(X).Q


def complement(U: Tensor, D: Tensor) -> Tensor:
    """Orthonormal basis Ũ (m, k) of range((I − U Uᵀ) D), k ≤ min(r, m − rank U): the basis augmentation.

    Only directions of (I − U Uᵀ) D above ε‖D‖ are kept (ε = 100 machine epsilons), so that a D of low rank, as
    every batch smaller than r gives, adds no arbitrary directions and `[U, Ũ]` stays orthonormal.

    Args:
        U: (m, r₀), orthonormal columns.
        D: (m, r), the displacement of the K- or L-step.
    """
    free, largest = U.shape[0] - U.shape[1], D.abs().max()
    if free == 0 or not bool(largest > 0):
        return U[:, :0]
    D = D / largest  # a norm of squares would over- or underflow long before D does
    W = _project_out(U, D)
    Q, R = torch.linalg.qr(W)
    floor = 100 * torch.finfo(D.dtype).eps * torch.linalg.matrix_norm(D)
    if W.shape[1] > free or bool((R.diagonal().abs() <= floor).any()):
        A, sigma, _ = svd(R)
        Q = Q @ A[:, : min(free, int((sigma > floor).sum()))]
    # A direction just above the floor carries up to eps/ε of U; twice is enough.
    return orthonormalize(_project_out(U, Q))


def _project_out(U: Tensor, X: Tensor) -> Tensor:
    return X - U @ (U.mT @ X)


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
    A, sigma, Bt = svd(Y.S)
    upper = len(sigma) if max_rank is None else min(max_rank, len(sigma))
    rank = upper if tau is None else truncation_rank(sigma, tau, min_rank, max_rank)
    return Factors(polish(Y.U @ A[:, :rank]), torch.diag(sigma[:rank]), polish(Y.V @ Bt[:rank].mT))


def polish(Q: Tensor) -> Tensor:
    """The nearest orthonormal basis to a nearly orthonormal Q (m, r), by one Newton–Schulz step: error e becomes e².

    Rotating a basis by a float32 orthogonal factor costs 1e-7 of orthogonality, every step anew: without this the
    rotations of 10,000 steps add up.
    """
    return 1.5 * Q - 0.5 * Q @ (Q.mT @ Q)
