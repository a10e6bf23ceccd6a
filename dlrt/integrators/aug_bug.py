from __future__ import annotations

import torch.nn.functional as F

from dlrt.engine import LayerStep
from dlrt.factors import Factors
from dlrt.integrators.base import Integrator
from dlrt.linalg import beside, complement, truncate


class AugmentedBUG(Integrator):
    """Rank-adaptive basis-update & Galerkin integrator: the method of DLRT (2022), Algorithm 1 with adaptive rank.

        K-step    K(t₁) = U₀S₀ − h G(Y₀) V₀,      Û = ortho[U₀, K(t₁)] = [U₀, Ũ]
        L-step    L(t₁) = V₀S₀ᵀ − h G(Y₀)ᵀ U₀,    V̂ = ortho[V₀, L(t₁)] = [V₀, Ṽ]
        S-step    Ŝ₁ = Ŝ₀ − h Ûᵀ G(Y₀) V̂,         Ŝ₀ = ÛᵀU₀ S₀ V₀ᵀV̂ = [[S₀, 0], [0, 0]]    (Û Ŝ₀ V̂ᵀ = Y₀)
        truncate  Ŝ₁ = A Σ Bᵀ,  U₁ = Û A[:, :r₁],  S₁ = Σ[:r₁, :r₁],  V₁ = V̂ B[:, :r₁]

    Rank: adaptive through τ; at most doubles in a step. Gradient points per step: 1, as the S-step starts at Y₀.
    The loss descends before truncation, by ‖ÛÛᵀ G V̂V̂ᵀ‖² to first order (DLRT, 2022, Theorem 2).
    Differs from `BUG` in augmenting the bases, from `ParallelBUG` in the last block of the S-step.
    """

    flows = ("K", "L", "S")
    rank_adaptive = True

    def after_L(self, step: LayerStep) -> Factors:
        U0, S0, V0 = step.base
        # K(t₁) and its displacement dK add the same directions to U₀; likewise for L.
        U_new, V_new = complement(U0, step.dK), complement(V0, step.dL)
        S = F.pad(S0, (0, V_new.shape[1], 0, U_new.shape[1]))
        return Factors(beside(U0, U_new), S, beside(V0, V_new))

    def after_S(self, step: LayerStep) -> Factors:
        U, S, V = step.base
        return truncate(Factors(U, S + step.dS, V), **self._bounds(rank=step.rank))
