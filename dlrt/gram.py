"""Fast factorisations of a matrix through its Gram matrix: matrix products and one small factorisation in float64.

Cholesky QR and the eigenvectors of XᵀX take a fraction of the time of Householder QR and the SVD, and square the
condition number κ. Each function therefore returns None where the result would not be as good as that of the plain
factorisation, which `dlrt.linalg` then takes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

enabled = True  # False within `dlrt.linalg.plain`


def cholesky_qr(X: Tensor, floor: Tensor | float, dtype: torch.dtype = torch.float64) -> Tensor | None:
    """Q (m, r) = X R⁻¹ with RᵀR = XᵀX: a basis of the columns of X (m, r), for `corrected` to make orthonormal.

    Args:
        floor: smallest diagonal entry of R that is accepted; it does not bound κ(X).
        dtype: that of the product XᵀX.

    Returns None if an entry is not above the floor, as where X is not finite.
    """
    if not enabled:
        return None
    L, failed = torch.linalg.cholesky_ex(_lower(X.to(dtype)).double())
    if not bool(((L.diagonal() > floor) & (failed == 0)).all()):
        return None
    return _divide(X, L)


def corrected(Q: Tensor) -> Tensor | None:
    """A nearly orthonormal Q (m, r) made orthonormal to rounding; None unless ‖R − I‖ < ½ for its R."""
    L, failed = torch.linalg.cholesky_ex(_lower(Q).double())
    error = torch.linalg.matrix_norm(L - torch.eye(len(L), dtype=L.dtype, device=L.device))
    return _divide(Q, L) if bool((error < 0.5) & (failed == 0)) else None


def _divide(X: Tensor, L: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(L.mT.to(X.dtype), X, upper=True, left=False)  # X L⁻ᵀ


def _lower(X: Tensor) -> Tensor:
    """XᵀX (r, r), of which only the lower triangle, all that is read, is sure to be filled."""
    half = X.shape[1] // 2
    if half < 64:
        return X.mT @ X
    G = X.new_zeros(X.shape[1], X.shape[1])
    left, right = X[:, :half], X[:, half:]
    torch.mm(right.mT, X, out=G[half:])
    G[:half, :half] = left.mT @ left
    return G


def leading_triplets(X: Tensor, choose: Callable[[Tensor], int]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Leading singular triplets A (n, r₁), σ (r₁,), B (k, r₁) of X (n, k), r₁ = choose(all σ, descending).

    From XᵀX = B Λ Bᵀ: σ = √Λ to an absolute accuracy of 1e-8 σ₁, and A = X B / σ, orthonormal up to 1e3 ε. Returns None
    if X is wide, not finite or out of range, or σ_{r₁} below 1e-5 σ₁.
    """
    if not enabled or X.shape[0] < X.shape[1]:
        return None
    try:
        energy, B = torch.linalg.eigh(_lower(X.double()))
    except torch.linalg.LinAlgError:
        return None
    sigma = energy.flip(0).clamp(min=0).sqrt()
    rank = choose(sigma)
    condition = float(sigma[0] / sigma[rank - 1])
    if not (condition < 1e5 and 1e-30 < float(sigma[0]) < 1e30):  # else float32 has no 1/σ
        return None
    sigma, B = sigma[:rank], B.flip(1)[:, :rank]
    A = X @ (B / sigma).to(X.dtype)
    Q = A if condition < 1e3 else corrected(A)
    return None if Q is None else (Q, sigma, B)
