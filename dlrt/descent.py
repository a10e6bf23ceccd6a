"""The optimiser of the coefficients K, L and S: from their gradient to the direction D of X ← X − h D.

A rule may have memory: moments of the gradient in the coefficients' coordinates, K's in those of V, L's in those of U,
S's in both. When a basis moves under them, `transport` and `extend` carry the memory into the new coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlrt.factors import Factors
from dlrt.linalg import beside

RULES = ("sgd", "momentum", "adam", "adamw")
TRANSPORTS = ("project", "index")

# "first" and, for adam, "second": tensors of the coefficients' shape; "count": int
Moments = dict[str, Any]


def direction(
    rule: str, gradient: Tensor, moments: Moments, betas: tuple[float, float], eps: float
) -> tuple[Tensor, Moments]:
    """The direction D and the new moments.

    sgd: D = g. momentum: m ← β₁ m + g, D = m. adam: Kingma and Ba's, with bias correction; an entry that it sees for
    the first time (its basis vector is new) starts as if its gradient had always been the present one, so that a
    fresh direction moves by h, as in Adam's own first step, and not by h (1 − β₁)/√(1 − β₂). adamw: the same; its decay
    is not in D.
    """
    if rule == "sgd":
        return gradient, {}
    count = moments.get("count", 0) + 1
    if rule == "momentum":
        first = gradient if count == 1 else betas[0] * moments["first"] + gradient
        return first, {"first": first, "count": count}
    zero = torch.zeros_like(gradient)
    first, second = moments.get("first", zero), moments.get("second", zero)
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
    carried = moments | {"first": _change(moments["first"], left, right)}
    if "second" in moments:
        squares = (None if x is None else x.square() for x in (left, right))
        carried["second"] = _change(moments["second"], *squares)
    return carried


def _change(X: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    X = X if left is None else left.mT @ X
    return X if right is None else X @ right


def extend(
    moments: dict[str, Moments], flows: Sequence[str], Y: Factors, U_new: Tensor, V_new: Tensor
) -> dict[str, Moments]:
    """The moments of the `flows` among K, L and S when the bases grow to [U, Ũ] and [V, Ṽ].

    With M the moment of G, K's is M V, L's Mᵀ U and S's Uᵀ M V. Of the new blocks Ũᵀ M V and Uᵀ M Ṽ are known from K's
    and L's; the new columns of K's and L's are filled with their part in the old bases, and ŨᵀMṼ is zero.
    """
    grown: dict[str, Moments] = {flow: dict(moments[flow]) for flow in flows}
    for part in {part for flow in flows for part in moments[flow]} - {"count"}:
        U, V, Un, Vn = (x if part == "first" else x.square() for x in (Y.U, Y.V, U_new, V_new))
        known = {flow: moments[flow][part] for flow in moments if part in moments[flow]}
        rows = Un.mT @ known["K"] if "K" in known else U.new_zeros(Un.shape[1], V.shape[1])  # ŨᵀMV
        columns = known["L"].mT @ Vn if "L" in known else U.new_zeros(U.shape[1], Vn.shape[1])  # UᵀMṼ
        corner = U.new_zeros(Un.shape[1], Vn.shape[1])
        if "K" in flows:
            grown["K"][part] = beside(known["K"], U @ columns)
        if "L" in flows:
            grown["L"][part] = beside(known["L"], V @ rows.mT)
        if "S" in flows:
            grown["S"][part] = torch.cat([torch.cat([known["S"], columns], 1), torch.cat([rows, corner], 1)])
    return grown


def carry(
    moments: dict[str, Moments], flows: Sequence[str], old: Factors, new: Factors, grows: bool, by_index: bool
) -> dict[str, Moments]:
    """The moments of the `flows` among K, L and S when the factors they belong to change from `old` to `new`.

    Args:
        moments: those of K, L and S as far as there are any; those of `flows` among them.
        grows: the new bases are the old ones with columns behind.
        by_index: keep the moments by index, padded with zeros or cut, whatever the bases do.
    """
    flows = [flow for flow in flows if moments[flow]]
    if new is old or not flows:
        return {flow: moments[flow] for flow in flows}
    if grows and not by_index:
        return extend(moments, flows, old, new.U[:, old.U.shape[1] :], new.V[:, old.V.shape[1] :])
    u, v = (_transition(a, b, by_index) for a, b in ((old.U, new.U), (old.V, new.V)))
    sides = {"K": (None, v), "L": (None, u), "S": (u, v)}
    return {flow: transport(moments[flow], *sides[flow]) for flow in flows}


def _transition(old: Tensor, new: Tensor, by_index: bool) -> Tensor | None:
    """R (r, k) with new coordinates = old coordinates · R."""
    if new is old:
        return None
    if by_index:
        return torch.eye(old.shape[1], new.shape[1], dtype=old.dtype, device=old.device)
    return old.mT @ new
