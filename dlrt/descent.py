"""The optimiser of the coefficients K, L and S: from their gradient to the direction D of X ← X − h D.

A rule may have memory (moments of the gradient in the coefficients' coordinates). When the basis underneath moves,
`transport` carries the memory into the new coordinates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

RULES = ("sgd", "momentum", "adam")
TRANSPORTS = ("project", "index")

Moments = dict[str, Any]  # "first", "second": tensors of the coefficients' shape; "count": int


def direction(rule: str, gradient: Tensor, moments: Moments, betas: tuple[float, float], eps: float) -> Tensor:
    """The direction D, updating `moments` in place.

    sgd: D = g. momentum: m ← β₁ m + g, D = m. adam: Kingma and Ba's, with bias correction; an entry that it sees for
    the first time (its basis vector is new) starts as if its gradient had always been the present one, so that a
    fresh direction moves by h, as in Adam's own first step, and not by h (1 − β₁)/√(1 − β₂).
    """
    if rule == "sgd":
        return gradient
    if not moments:
        moments.update(first=torch.zeros_like(gradient), second=torch.zeros_like(gradient), count=0)
    first, second = moments["first"], moments["second"]
    if rule == "momentum":
        moments["first"] = betas[0] * first + gradient
        return moments["first"]
    moments["count"] += 1
    correction1, correction2 = (1 - beta ** moments["count"] for beta in betas)
    fresh = second == 0
    first = torch.where(fresh, correction1 * gradient, torch.lerp(gradient, first, betas[0]))
    second = torch.where(fresh, correction2 * gradient**2, torch.lerp(gradient**2, second, betas[1]))
    moments.update(first=first, second=second)
    return (first / correction1) / ((second / correction2).sqrt() + eps)


def transport(moments: Moments, left: Tensor | None, right: Tensor | None) -> None:
    """Carry the moments of coefficients X into new coordinates Lᵀ X R, in place; None stands for the identity.

    First moments are linear in the gradient and follow it. Second moments are squares: (L∘L)ᵀ v (R∘R) is their exact
    expectation when the entries of the gradient are uncorrelated; Adam itself has no basis-free meaning.
    """
    if moments:
        moments["first"] = _change(moments["first"], left, right)
        squares = (None if x is None else x.square() for x in (left, right))
        moments["second"] = _change(moments["second"], *squares)


def _change(X: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    X = X if left is None else left.mT @ X
    return X if right is None else X @ right
