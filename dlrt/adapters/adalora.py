from __future__ import annotations

import torch
from torch import Tensor, nn

from dlrt.factors import Factors
from dlrt.matricize import View

STD = 0.02  # of P and Q at the start, as in the authors' code


class AdaLoRALayer(nn.Module):
    """Y = s P diag(σ) Qᵀ with P (m, r), Q (n, r) random and σ (r,) zero at the start (AdaLoRA, Zhang et al., 2023).

    P, σ and Q are trained by simultaneous descent, P and Q kept near orthonormal by a penalty, and triplets (P_i, σ_i,
    Q_i) of small importance masked, all by `dlrt.baselines.AdaLoRA`. s = α / r.

    Args:
        rank: r, the number of triplets; `rank` of the layer is that of those not masked.
        alpha: α; None is r, so that s = 1.
    """

    kept: Tensor

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
        self.P = nn.Parameter(STD * torch.randn(m, rank, device=device, dtype=dtype))
        self.sigma = nn.Parameter(torch.zeros(rank, device=device, dtype=dtype))
        self.Q = nn.Parameter(STD * torch.randn(n, rank, device=device, dtype=dtype))
        self.register_buffer("kept", torch.ones(rank, device=device, dtype=torch.bool))
        self.view = view
        self.alpha = float(rank if alpha is None else alpha)

    @property
    def rank(self) -> int:
        """Number of triplets that count: those kept, and between two maskings those whose σ has grown again."""
        return int((self.kept | (self.sigma != 0)).sum())

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(m, n) of Y."""
        return self.P.shape[0], self.Q.shape[0]

    @property
    def factors(self) -> Factors:
        """U = P, S = s diag(σ), V = Q, detached; nearly orthonormal at most."""
        return Factors(self.P.detach(), torch.diag(self._scaled().detach()), self.Q.detach())

    @property
    def weight(self) -> Tensor:
        """Y in the layer's shape; computed at each call, differentiable."""
        return self.view.weight(self.P @ (self.Q * self._scaled()).mT)

    def mask(self) -> None:
        """Set σ to zero where the triplet is not kept."""
        self.sigma.data.masked_fill_(~self.kept, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.view.expand(self.view.right(x, self.Q * self._scaled()), self.P)

    def _scaled(self) -> Tensor:
        return self.sigma * (self.alpha / len(self.sigma))
