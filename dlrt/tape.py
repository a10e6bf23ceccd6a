"""The gradient of a low-rank layer, recorded in one forward and one backward pass and not formed where rank is low.

For a layer z = x Yᵀ + bias with cotangent δ = ∂ℓ/∂z the full gradient is G = δᵀ x (m, n). A step needs only products:

    G V = δᵀ (x V)      Gᵀ U = xᵀ (δ U)      Uᵀ G V = (δ U)ᵀ (x V)

and xV and δU are by-products of the layer's forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from typing import TYPE_CHECKING
from weakref import WeakMethod

import torch
from torch import Tensor

from dlrt.factors import Factors
from dlrt.linalg import beside
from dlrt.matricize import View
from dlrt.precision import full_precision

if TYPE_CHECKING:
    from dlrt.layers import LowRankLayer


_CREATE_GRAPH = "a closure cannot differentiate gradients: create_graph=True is not supported"


@dataclass(frozen=True)
class Call:
    """One use of the layer, once the backward pass has come by."""

    x: Tensor
    version: int  # of x: a later in-place change would falsify the products
    xV: Tensor
    delta: Tensor
    deltaU: Tensor


class Gradient:
    """G at the point Y = U S Vᵀ, a sum over the layer's calls.

    A basis handed to `right`, `left` and `core` begins with the columns of the V or U of the point: their products are
    known already, and only those with the further columns are computed.
    """

    def __init__(self, Y: Factors, view: View, complete: Callable[[Gradient], None] | None = None) -> None:
        self.Y, self.view, self.complete = Y, view, complete
        self.calls: list[Call] = []
        self.pending = 0  # calls that the backward pass has not come by yet
        self.armed = False  # whether the backward pass that runs is the step's own
        self.scale: Tensor | float = 1.0

    @property
    def reached(self) -> bool:
        """Whether the loss depended on the layer."""
        return bool(self.calls)

    @torch.compiler.disable
    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's output, recording the call."""
        U, S, V = self.Y
        xV = self.view.right(x, V)
        p = self.view.expand(xV, S)  # x V Sᵀ: its cotangent is δ U
        if not p.requires_grad:
            p.requires_grad_()
        z = self.view.expand(p, U, bias)
        self.pending += 1
        # The hooks live as long as the graph, to the end of the pass: what they hold is taken from them on arrival.
        kept, delta = [(x.detach(), x._version, xV.detach())], list[Tensor]()

        def arrive(deltaU: Tensor) -> None:
            if self.armed:
                self.calls.append(Call(*kept.pop(), delta.pop(), deltaU))
                self.pending -= 1
                if self.pending == 0 and self.complete is not None:
                    self.complete(self)
            elif torch.is_grad_enabled():
                raise NotImplementedError(_CREATE_GRAPH)

        z.register_hook(delta.append)
        p.register_hook(arrive)
        return z

    @cached_property
    def GV(self) -> Tensor:
        """G V (m, r) at the point's own V."""
        return self._sum(self.view.inner(c.delta, c.xV) for c in self._checked())

    @cached_property
    def GtU(self) -> Tensor:
        """Gᵀ U (n, r) at the point's own U."""
        return self._sum(self.view.adjoint(c.x, c.deltaU) for c in self._checked())

    def right(self, V: Tensor) -> Tensor:
        """G V (m, k)."""
        new = V[:, self.Y.V.shape[1] :]
        if new.shape[1] == 0:
            return self.GV
        products = (self.view.inner(c.delta, self.view.right(c.x, new)) for c in self._checked())
        return beside(self.GV, self._sum(products))

    def left(self, U: Tensor) -> Tensor:
        """Gᵀ U (n, k)."""
        new = U[:, self.Y.U.shape[1] :]
        if new.shape[1] == 0:
            return self.GtU
        products = (self.view.adjoint(c.x, self.view.left(c.delta, new)) for c in self._checked())
        return beside(self.GtU, self._sum(products))

    def core(self, U: Tensor, V: Tensor) -> Tensor:
        """Uᵀ G V (k, l)."""
        view, new_U, new_V = self.view, U[:, self.Y.U.shape[1] :], V[:, self.Y.V.shape[1] :]
        if self._rows() <= max(len(U), len(V)):  # then δU and xV are smaller than G V and Gᵀ U
            products = (view.inner(self._deltaU(c, new_U), self._xV(c, new_V)) for c in self._checked())
            return self._sum(products)
        left = U.mT @ self.GV
        if new_V.shape[1] == 0:
            return left
        right = self.GtU.mT @ new_V
        if new_U.shape[1] > 0:
            products = (view.inner(view.left(c.delta, new_U), view.right(c.x, new_V)) for c in self._checked())
            right = torch.cat([right, self._sum(products)])
        return torch.cat([left, right], 1)

    def _rows(self) -> int:
        return sum(c.xV.numel() for c in self.calls) // max(1, self.Y.V.shape[1])

    def _deltaU(self, c: Call, new: Tensor) -> Tensor:
        return torch.cat([c.deltaU, self.view.left(c.delta, new)], self.view.dim) if new.shape[1] else c.deltaU

    def _xV(self, c: Call, new: Tensor) -> Tensor:
        return torch.cat([c.xV, self.view.right(c.x, new)], self.view.dim) if new.shape[1] else c.xV

    def tangent_norm2(self) -> Tensor:
        """‖P(Y) G‖², the squared norm of the gradient's part in the tangent space of the rank-r matrices at Y."""
        inside = self.Y.U.mT @ self.GV
        return self.GV.square().sum() + self.GtU.square().sum() - inside.square().sum()

    def dense(self) -> Tensor:
        """G itself (m, n): for diagnostics and tests only."""
        return self._sum(self.view.adjoint(c.x, c.delta).mT for c in self._checked())

    def rescale(self, scale: Tensor | float) -> None:
        """Multiply G by a scalar."""
        self.scale = self.scale * scale
        for known in {"GV", "GtU"} & self.__dict__.keys():
            self.__dict__[known] = self.__dict__[known] * scale

    def clear(self) -> None:
        """Forget the calls and the products known from them."""
        self.calls.clear()
        for known in {"GV", "GtU"} & self.__dict__.keys():
            del self.__dict__[known]

    def _checked(self) -> Iterator[Call]:
        dtype = self.Y.U.dtype
        for c in self.calls:
            if c.x._version != c.version:
                raise RuntimeError(
                    "the input of a low-rank layer was modified in place before the step had used it: "
                    "use the out-of-place operation (for nn.ReLU: inplace=False)"
                )
            same = c.x.dtype == c.xV.dtype == c.delta.dtype == c.deltaU.dtype == dtype
            # Under autocast the pass runs in low precision; the products of its results do not.
            yield c if same else Call(c.x.to(dtype), 0, c.xV.to(dtype), c.delta.to(dtype), c.deltaU.to(dtype))

    def _sum(self, products: Iterator[Tensor]) -> Tensor:
        total = reduce(torch.add, products)
        return total if isinstance(self.scale, float) and self.scale == 1 else total * self.scale


class MatrixGradient(Gradient):
    """G of a layer whose factors hold no fewer numbers than Y: r (m + n + r) ≥ m n.

    Nothing thin is left to gain there: the layer runs with Y itself, and autograd's G gives all products. The matrices
    Y and G are no larger than U, S and V, and forming them, m n r, costs no more than orthonormalising the bases does.
    """

    def __init__(self, Y: Factors, view: View, complete: Callable[[Gradient], None] | None = None) -> None:
        super().__init__(Y, view, complete)
        with full_precision(Y.U.device):
            self.weight = Y.dense().requires_grad_()
        arrive = WeakMethod(self._arrive)  # no reference cycle: the tape's tensors are freed with it
        # The hook runs once per backward pass, with the sum over the calls.
        self.weight.register_post_accumulate_grad_hook(lambda weight: (method := arrive()) and method(weight))
        self.G: Tensor | None = None

    @property
    def reached(self) -> bool:
        return self.G is not None

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        z = self.view.apply(x, self.weight, bias)
        z.register_hook(self._refuse_create_graph)
        return z

    def _refuse_create_graph(self, _: Tensor) -> None:
        if not self.armed and torch.is_grad_enabled():
            raise NotImplementedError(_CREATE_GRAPH)

    def _arrive(self, weight: Tensor) -> None:
        G, weight.grad = weight.grad, None
        if not self.armed:
            return
        assert G is not None
        self.G = G if self.G is None else self.G + G
        if self.complete is not None:
            self.complete(self)

    @cached_property
    def GV(self) -> Tensor:
        return self.dense() @ self.Y.V

    @cached_property
    def GtU(self) -> Tensor:
        return self.dense().mT @ self.Y.U

    def right(self, V: Tensor) -> Tensor:
        return self.GV if V.shape[1] == self.Y.V.shape[1] else self.dense() @ V

    def left(self, U: Tensor) -> Tensor:
        return self.GtU if U.shape[1] == self.Y.U.shape[1] else self.dense().mT @ U

    def core(self, U: Tensor, V: Tensor) -> Tensor:
        return U.mT @ self.dense() @ V

    def dense(self) -> Tensor:
        assert self.G is not None
        return self.G if isinstance(self.scale, float) and self.scale == 1 else self.G * self.scale

    def clear(self) -> None:
        super().clear()
        self.G = None


def gradient_of(Y: Factors, view: View, complete: Callable[[Gradient], None] | None = None) -> Gradient:
    """An empty tape for a layer, of the kind that its sizes call for."""
    m, n, r = len(Y.U), len(Y.V), min(Y.S.shape)
    kind = MatrixGradient if r * (m + n + r) >= m * n else Gradient
    return kind(Y, view, complete)


@contextmanager
def recording(
    layers: Mapping[str, LowRankLayer], complete: Callable[[str, Gradient], None] | None = None
) -> Iterator[dict[str, Gradient]]:
    """Record the gradient of each layer, by its name, for the forward passes within the context.

    Args:
        complete: called, within the backward pass, when it has come by all calls of a layer.
    """
    tapes = {
        name: gradient_of(layer.factors, layer.view, complete and partial(complete, name))
        for name, layer in layers.items()
    }
    for name, layer in layers.items():
        layer.tape = tapes[name]
    try:
        yield tapes
    finally:
        for layer in layers.values():
            layer.tape = None


@contextmanager
def armed(tapes: Mapping[str, Gradient]) -> Iterator[None]:
    """Within: the step's own backward pass. Any other (an adversarial example's, say) leaves the tapes alone."""
    for tape in tapes.values():
        tape.armed = True
    try:
        yield
    finally:
        for tape in tapes.values():
            tape.armed = False
