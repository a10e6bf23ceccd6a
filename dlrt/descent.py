"""The optimiser of the coefficients K, L and S: from their gradient to the direction D of X ← X − h D.

A rule may have memory: moments of the gradient in the coefficients' coordinates, K's in those of V, L's in those of U,
S's in both. When a basis moves under them, `transport` and `extend` carry the memory into the new coordinates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlrt.factors import Factors

RULES = ("sgd", "momentum", "adam")
TRANSPORTS = ("project", "index")

Moments = dict[str, Any]  # "first", "second": tensors of the coefficients' shape; "count": int


def direction(
    rule: str, gradient: Tensor, moments: Moments, betas: tuple[float, float], eps: float
) -> tuple[Tensor, Moments]:
    """The direction D and the new moments.

    sgd: D = g. momentum: m ← β₁ m + g, D = m. adam: Kingma and Ba's, with bias correction; an entry that it sees for
    the first time (its basis vector is new) starts as if its gradient had always been the present one, so that a
    fresh direction moves by h, as in Adam's own first step, and not by h (1 − β₁)/√(1 − β₂).
    """
    if rule == "sgd":
        return gradient, {}
    zero = torch.zeros_like(gradient)
    first, second, count = moments.get("first", zero), moments.get("second", zero), moments.get("count", 0) + 1
    if rule == "momentum":
        first = betas[0] * first + gradient
        return first, {"first": first, "second": second, "count": count}
    correction1, correction2 = (1 - beta**count for beta in betas)
    fresh = second == 0
    first = torch.where(fresh, correction1 * gradient, torch.lerp(gradient, first, betas[0]))
    second = torch.where(fresh, correction2 * gradient**2, torch.lerp(gradient**2, second, betas[1]))
    D = (first / correction1) / ((second / correction2).sqrt() + eps)
    return D, {"first": first, "second": second, "count": count}


def transport(moments: Moments, left: Tensor | None, right: Tensor | None) -> Moments:
    """The moments of coefficients X in new coordinates Lᵀ X R; None stands for the identity.

    First moments are linear in the gradient and follow it. Second moments are squares: (L∘L)ᵀ v (R∘R) is their exact
    expectation when the entries of the gradient are uncorrelated; Adam itself has no basis-free meaning.
    """
    if not moments:
        return {}
    squares = (None if x is None else x.square() for x in (left, right))
    first, second = _change(moments["first"], left, right), _change(moments["second"], *squares)
    return {"first": first, "second": second, "count": moments["count"]}


def _change(X: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    X = X if left is None else left.mT @ X
    return X if right is None else X @ right


def extend(moments: dict[str, Moments], Y: Factors, U_new: Tensor, V_new: Tensor) -> dict[str, Moments]:
    """The moments of K, L and S when the bases grow to [U, Ũ] and [V, Ṽ].

    With M the moment of G, K's is M V, L's Mᵀ U and S's Uᵀ M V. Of the new blocks Ũᵀ M V and Uᵀ M Ṽ are known from K's
    and L's; the new columns of K's and L's are filled with their part in the old bases, and ŨᵀMṼ is zero.
    """
    grown: dict[str, Moments] = {flow: dict(m) for flow, m in moments.items()}
    for part in ("first", "second"):
        U, V, Un, Vn = (x if part == "first" else x.square() for x in (Y.U, Y.V, U_new, V_new))
        K, L, S = (moments.get(flow, {}).get(part) for flow in "KLS")
        rows = U.new_zeros(Un.shape[1], V.shape[1]) if K is None else Un.mT @ K  # ŨᵀMV
        columns = U.new_zeros(U.shape[1], Vn.shape[1]) if L is None else L.mT @ Vn  # UᵀMṼ
        if K is not None:
            grown["K"][part] = torch.cat([K, U @ columns], 1)
        if L is not None:
            grown["L"][part] = torch.cat([L, V @ rows.mT], 1)
        if S is not None:
            corner = S.new_zeros(Un.shape[1], Vn.shape[1])
            grown["S"][part] = torch.cat([torch.cat([S, columns], 1), torch.cat([rows, corner], 1)])
    return grown


def carry(moments: dict[str, Moments], old: Factors, new: Factors, grows: bool, by_index: bool) -> dict[str, Moments]:
    """The moments of K, L and S when the factors they belong to change from `old` to `new`.

    Args:
        grows: the new bases are the old ones with columns behind.
        by_index: keep the moments by index, padded with zeros or cut, whatever the bases do.
    """
    if new is old or not any(moments.values()):
        return moments
    if grows and not by_index:
        return extend(moments, old, new.U[:, old.U.shape[1] :], new.V[:, old.V.shape[1] :])
    u, v = (_transition(a, b, by_index) for a, b in ((old.U, new.U), (old.V, new.V)))
    sides = {"K": (None, v), "L": (None, u), "S": (u, v)}
    return {flow: transport(m, *sides[flow]) for flow, m in moments.items()}


def _transition(old: Tensor, new: Tensor, by_index: bool) -> Tensor | None:
    """R (r, k) with new coordinates = old coordinates · R."""
    if new is old:
        return None
    if by_index:
        return torch.eye(old.shape[1], new.shape[1], dtype=old.dtype, device=old.device)
    return old.mT @ new
