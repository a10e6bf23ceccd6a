from __future__ import annotations

import torch

from dlrt.engine import LayerStep
from dlrt.factors import Factors
from dlrt.integrators.base import Integrator
from dlrt.linalg import beside, complement, truncate


class ParallelBUG(Integrator):
    """Parallel basis-update & Galerkin integrator of Ceruti, Kusch and Lubich: the integrator inside GeoLoRA.

        K-step    K(t₁) = U₀S₀ − h G(Y₀) V₀,      [U₀, Ũ] = ortho[U₀, K(t₁)]
        L-step    L(t₁) = V₀S₀ᵀ − h G(Y₀)ᵀ U₀,    [V₀, Ṽ] = ortho[V₀, L(t₁)]
        S-step    S(t₁) = S₀ − h U₀ᵀ G(Y₀) V₀     in the old bases, in parallel with the two
        assemble  Ŝ = [[S(t₁), L(t₁)ᵀṼ], [ŨᵀK(t₁), 0]], then truncate as `AugmentedBUG`

    Rank: adaptive through τ; at most doubles in a step. Gradient points per step: 1.
    The untruncated SGD step is Y₀ − h P(Y₀)G exactly, P the projection onto the tangent space at Y₀.
    Differs from `AugmentedBUG` in the last block, 0 here and −h ŨᵀGṼ there.
    """

    flows = ("K", "L", "S")
    rank_adaptive = True

    def after_S(self, step: LayerStep) -> Factors:
        U0, S0, V0 = step.base
        U_new, V_new = complement(U0, step.dK), complement(V0, step.dL)
        # ŨᵀK(t₁) = Ũᵀ(K(t₁) − K₀), as Ũ is orthogonal to U₀; likewise for L.
        top = torch.cat([S0 + step.dS, step.dL.mT @ V_new], 1)
        bottom = torch.cat([U_new.mT @ step.dK, S0.new_zeros(U_new.shape[1], V_new.shape[1])], 1)
        U, V = beside(U0, U_new), beside(V0, V_new)
        return truncate(Factors(U, torch.cat([top, bottom]), V), **self._bounds(rank=step.rank))
