"""The step as public research codes do it: one forward and backward pass each for K, L and S, and full QRs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from dlrt import Factors, LowRankLayer, low_rank_layers
from dlrt.linalg import truncate

Closure = Callable[[], Tensor]


class SeparatePasses:
    """The rank-adaptive BUG step of DLRT, 2022, Algorithm 1, at fixed rank, with plain gradient descent.

        K-pass   z = (x V₀) Kᵀ,      K(t₁) = U₀S₀ − h ∂ℓ/∂K,       Û = Q of the QR of [U₀, K(t₁)]  (m × 2r)
        L-pass   z = (x L) U₀ᵀ,      L(t₁) = V₀S₀ᵀ − h ∂ℓ/∂L,      V̂ = Q of the QR of [V₀, L(t₁)]  (n × 2r)
        S-pass   z = ((x V̂) Sᵀ) Ûᵀ,  Ŝ₁ = Ŝ₀ − h ∂ℓ/∂S,  Ŝ₀ = ÛᵀU₀ S₀ V₀ᵀV̂;  all other parameters step, too
        truncate Ŝ₁ to rank r, by `dlrt.linalg.truncate`

    Automatic differentiation gives the gradients; the products are the layers' own (`dlrt.matricize`). All passes are
    at Y₀, so in exact arithmetic this is the step of `dlrt.integrators.AugmentedBUG` with tau=None.
    """

    def __init__(self, model: nn.Module, lr: float) -> None:
        self.lr, self.layers = lr, low_rank_layers(model)
        factors = {id(p) for layer in self.layers.values() for p in (layer.U, layer.S, layer.V)}
        self.others = [p for p in model.parameters() if id(p) not in factors]

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor:
        """Advance all parameters by one step; return the loss at Y₀."""
        Y0 = {name: layer.factors for name, layer in self.layers.items()}
        K0 = {name: U @ S for name, (U, S, _) in Y0.items()}
        L0 = {name: V @ S.mT for name, (_, S, V) in Y0.items()}
        loss, dK = self._pass(closure, K0, {name: partial(_K_form, V=Y.V) for name, Y in Y0.items()})
        _, dL = self._pass(closure, L0, {name: partial(_L_form, U=Y.U) for name, Y in Y0.items()})
        hat = {}
        for name, (U, S, V) in Y0.items():
            U_hat = torch.linalg.qr(torch.cat([U, K0[name] - self.lr * dK[name]], 1)).Q
            V_hat = torch.linalg.qr(torch.cat([V, L0[name] - self.lr * dL[name]], 1)).Q
            hat[name] = Factors(U_hat, (U_hat.mT @ U) @ S @ (V.mT @ V_hat), V_hat)
        S0 = {name: Y.S for name, Y in hat.items()}
        forms = {name: partial(_S_form, U=Y.U, V=Y.V) for name, Y in hat.items()}
        _, dS = self._pass(closure, S0, forms, self.others)
        for name, Y in hat.items():
            Y1 = Y._replace(S=Y.S - self.lr * dS[name])
            self.layers[name].factors = truncate(Y1, None, max_rank=Y0[name].S.shape[0])
        return loss

    def _pass(
        self,
        closure: Closure,
        at: dict[str, Tensor],
        forms: Mapping[str, Callable[..., Tensor]],
        others: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and gradient with respect to the coefficients `at` of the layers; then the step of the `others`."""
        coefficients = {name: X.detach().requires_grad_() for name, X in at.items()}
        for parameter in self.others:
            parameter.requires_grad_(others is not None)
        with torch.enable_grad(), _forwards(self.layers, forms, coefficients):
            loss = closure()
            grads = torch.autograd.grad(loss, [*coefficients.values(), *(others or ())])
        for p, grad in zip(others or (), grads[len(coefficients) :], strict=True):
            p.sub_(grad, alpha=self.lr)
        return loss.detach(), dict(zip(coefficients, grads, strict=False))


def _K_form(layer: LowRankLayer, K: Tensor, x: Tensor, V: Tensor) -> Tensor:
    return layer.view.expand(layer.view.right(x, V), K, layer.bias)


def _L_form(layer: LowRankLayer, L: Tensor, x: Tensor, U: Tensor) -> Tensor:
    return layer.view.expand(layer.view.right(x, L), U, layer.bias)


def _S_form(layer: LowRankLayer, S: Tensor, x: Tensor, U: Tensor, V: Tensor) -> Tensor:
    return layer.view.expand(layer.view.expand(layer.view.right(x, V), S), U, layer.bias)


@contextmanager
def _forwards(
    layers: Mapping[str, LowRankLayer], forms: Mapping[str, Callable[..., Tensor]], at: Mapping[str, Tensor]
) -> Iterator[None]:
    """Within: each layer computes its form."""
    for name, layer in layers.items():
        layer.forward = partial(forms[name], layer, at[name])  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.forward
