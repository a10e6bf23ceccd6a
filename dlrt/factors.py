"""The factors of a low-rank matrix Y = U S Vᵀ and the ways to start them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

INITS = ("orthonormal", "normal")


class Factors(NamedTuple):
    """Y = U S Vᵀ with U (m, r), S (r, r), V (n, r); U and V have orthonormal columns."""

    U: Tensor
    S: Tensor
    V: Tensor

    def dense(self) -> Tensor:
        """The matrix Y (m, n)."""
        return self.U @ self.S @ self.V.mT


def random_factors(
    m: int,
    n: int,
    rank: int,
    init: str = "orthonormal",
    gain: float = 1.0,
    spectrum: Tensor | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Factors:
    """Random orthonormal bases with a chosen core; costs O((m + n) r²), no SVD.

    Args:
        init: "orthonormal": S is diagonal and ‖S‖² = gain² · 2m, the norm of an m × n matrix drawn by He's rule;
            "normal": S has N(0, 1) entries, as in the abc-PSI paper's MNIST runs (gain and spectrum unused).
        gain: scale relative to He's.
        spectrum: (r,), the shape of the singular values (rescaled to the norm above); None: all equal.
    """
    if init not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}, got {init!r}")
    check_rank(rank, m, n)
    U, V = (torch.linalg.qr(torch.randn(k, rank, device=device, dtype=dtype)).Q for k in (m, n))
    if init == "normal":
        return Factors(U, torch.randn(rank, rank, device=device, dtype=dtype), V)
    sigma = torch.ones(rank) if spectrum is None else spectrum
    if sigma.shape != (rank,) or bool((sigma < 0).any()) or not bool(sigma.any()):
        raise ValueError(f"spectrum must hold rank = {rank} values ≥ 0, not all zero, got shape {tuple(sigma.shape)}")
    sigma = sigma.to(U) * (gain * (2 * m) ** 0.5 / torch.linalg.vector_norm(sigma).item())
    return Factors(U, torch.diag(sigma), V)


def check_rank(rank: int, m: int, n: int) -> None:
    """Raise ValueError unless 1 ≤ rank ≤ min(m, n)."""
    if not 1 <= rank <= min(m, n):
        raise ValueError(f"rank must lie in 1 … min(m, n) = {min(m, n)} for a {m} × {n} matrix, got {rank}")
