from __future__ import annotations

import torch
import torch.nn.functional as F

from dlrt.engine import LayerStep
from dlrt.factors import Factors
from dlrt.integrators.base import Integrator
from dlrt.linalg import beside, complement, truncate_product


class AugmentedBackwardCorrectedPSI(Integrator):
    """Augmented backward-corrected PSI (abc-PSI, 2025), equations (4.1)–(4.3), Algorithm 4.1.

        K-step      K(t₁) = U₀S₀ − h G(Y₀) V₀                                              (4.3a)
        augment     Û = ortho[U₀, K(t₁)] = [U₀, Ũ],   S̄ = ÛᵀU₀S₀ = [S₀; 0]                 (4.1b)
        L-step      L(t₁) = V₀S̄ᵀ − h G(Y₀)ᵀ Û       (Û L₀ᵀ = Y₀)                           (4.3b)
        truncate    L(t₁) = P Σ Qᵀ,  U₁ = Û Q[:, :r₁],  S₁ = Σ[:r₁, :r₁],  V₁ = P[:, :r₁]   (4.2)

    Rank: adaptive through τ; at most doubles in a step. Gradient points per step: 1, as the L-step starts at Y₀.
    The loss descends before truncation for h ≤ 2/c (Theorem 5.8).
    Differs from `AugmentedBUG` in augmenting U only: one QR and a core of n × 2r instead of two QRs and 2r × 2r.
    """

    flows = ("K", "L")
    rank_adaptive = True

    def after_K(self, step: LayerStep) -> Factors:
        U0, S0, V0 = step.base
        U_new = complement(U0, step.dK)  # K(t₁) and its displacement add the same directions to U₀
        return Factors(beside(U0, U_new), F.pad(S0, (0, 0, 0, U_new.shape[1])), V0)

    def after_L(self, step: LayerStep) -> Factors:
        U, S, V0 = step.base
        return truncate_product(U, torch.addmm(step.dL, V0, S.mT), **self._bounds(rank=step.rank))
