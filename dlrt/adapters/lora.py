from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlrt.factors import Factors
from dlrt.matricize import View


class LoRALayer(nn.Module):
    """Y = s A Bᵀ with A (m, r) zero and B (n, r) random at the start, s = α / r (LoRA, Hu et al., 2021).

    In the notation of abc-PSI, 2025, section 6.2; LoRA's own is B A. A and B are trained by simultaneous descent, see
    `dlrt.baselines.LoRA`.

    Args:
        alpha: α; None is r, so that s = 1.
    """

    def __init__(
        self,
        matrix_shape: tuple[int, int],
        rank: int,
        view: View,
        alpha: float | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        m, n = matrix_shape
        self.A = nn.Parameter(torch.zeros(m, rank, device=device, dtype=dtype))
        # As nn.Linear draws its weight, and the reference code B.
        self.B = nn.Parameter(torch.empty(n, rank, device=device, dtype=dtype).uniform_(-1, 1) / math.sqrt(n))
        self.view = view
        self.alpha = float(rank if alpha is None else alpha)

    @property
    def rank(self) -> int:
        """r."""
        return self.A.shape[1]

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(m, n) of Y."""
        return self.A.shape[0], self.B.shape[0]

    @property
    def factors(self) -> Factors:
        """U = A, S = s I, V = B, detached; not orthonormal."""
        A, B = self.A.detach(), self.B.detach()
        return Factors(A, self.alpha / self.rank * torch.eye(self.rank, device=A.device, dtype=A.dtype), B)

    @property
    def weight(self) -> Tensor:
        """Y in the layer's shape; computed at each call, differentiable."""
        return self.view.weight(self._scaled() @ self.B.mT)

    def forward(self, x: Tensor) -> Tensor:
        return self.view.expand(self.view.right(x, self.B), self._scaled())

    def _scaled(self) -> Tensor:
        return self.A * (self.alpha / self.rank)
