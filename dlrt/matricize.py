"""The one place that knows how a layer's input and output are rows of matrices.

A linear layer computes z = x Yᵀ with x (b, n). A convolution W (F, C, J, K) is the matrix F × CJK (DLRT, 2022,
section 6.6) applied to the patches of its input: the same formulas hold with patches as the rows of x, and are
evaluated by convolutions, so that no unfolded tensor is stored. Each view offers the products a step needs:

    right(x, V)  = x V      left(δ, U) = δ U      inner(δ, a) = δᵀ a      adjoint(x, p) = xᵀ p      expand(p, U) = p Uᵀ
    apply(x, Y) = x Yᵀ, with the matrix itself
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight


@dataclass(frozen=True)
class LinearView:
    """Rows are the last dimension: x (…, n), δ (…, m), a and p (…, r)."""

    dim = -1

    def right(self, x: Tensor, V: Tensor) -> Tensor:
        return x @ V

    def left(self, delta: Tensor, U: Tensor) -> Tensor:
        return delta @ U

    def inner(self, delta: Tensor, a: Tensor) -> Tensor:
        # (aᵀδ)ᵀ: for thin a up to three times as fast on a CPU as δᵀa
        return (a.reshape(-1, a.shape[-1]).mT @ delta.reshape(-1, delta.shape[-1])).mT

    def adjoint(self, x: Tensor, p: Tensor) -> Tensor:
        return self.inner(x, p)

    def expand(self, p: Tensor, U: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(p, U, bias)

    def weight(self, Y: Tensor) -> Tensor:
        return Y

    def apply(self, x: Tensor, Y: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, Y, bias)


@dataclass(frozen=True)
class ConvView:
    """Rows are patches: x (b, C, H, W), δ (b, F, H', W'), a and p (b, r, H', W'); V is (CJK, r).

    With channels last in memory a row of δ, a or p is one piece: the products with U are then plain matrix products.
    What comes out has the memory format of what goes in, as with torch's own convolutions.
    """

    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    dim = 1

    def right(self, x: Tensor, V: Tensor) -> Tensor:
        return F.conv2d(x, self.weight(V.mT), None, self.stride, self.padding, self.dilation)

    def left(self, delta: Tensor, U: Tensor) -> Tensor:
        return self.expand(delta, U.mT)

    def inner(self, delta: Tensor, a: Tensor) -> Tensor:
        return (_rows(a).flatten(0, 2).mT @ _rows(delta).flatten(0, 2)).mT  # as LinearView.inner

    def adjoint(self, x: Tensor, p: Tensor) -> Tensor:
        shape = (p.shape[1], self.channels, *self.kernel)
        grad = conv2d_weight(x, shape, p, self.stride, self.padding, self.dilation)
        return grad.flatten(1).mT

    def expand(self, p: Tensor, U: Tensor, bias: Tensor | None = None) -> Tensor:
        z = F.linear(_rows(p), U, bias).movedim(-1, 1)
        return z if p.stride(1) == 1 else z.contiguous()

    def weight(self, Y: Tensor) -> Tensor:
        return Y.reshape(-1, self.channels, *self.kernel)

    def apply(self, x: Tensor, Y: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, self.weight(Y), bias, self.stride, self.padding, self.dilation)


def _rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


View = LinearView | ConvView
