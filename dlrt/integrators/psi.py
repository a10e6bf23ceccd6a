from __future__ import annotations

import torch

from dlrt.engine import LayerStep
from dlrt.factors import Factors
from dlrt.integrators.base import Integrator


class PSI(Integrator):
    """Projector-splitting integrator of Lubich and Oseledets, as in abc-PSI (2025), equation (3.3).

        K-step  K(t₁) = U₀S₀ − h G(K₀V₀ᵀ) V₀          U₁ S̃₀ = K(t₁) by QR                      (3.3a)
        S-step  S̃₁    = S̃₀ + h U₁ᵀ G(U₁S̃₀V₀ᵀ) V₀     backward in time: the sign is +          (3.3b)
        L-step  L(t₁) = V₀S̃₁ᵀ − h G(U₁S̃₁V₀ᵀ)ᵀ U₁      V₁ S₁ᵀ = L(t₁) by QR                      (3.3c)

    Rank: fixed. Gradient points per step: 3. The S-step may increase the loss (Lemma 5.1).
    Differs from `BackwardCorrectedPSI` in its S-step, which that one replaces by a projection.
    """

    flows = ("K", "S", "L")
    new_points = frozenset({"S", "L"})

    def direction_of_time(self, flow: str) -> int:
        return -1 if flow == "S" else 1

    def after_K(self, step: LayerStep) -> Factors:
        U0, S0, V0 = step.base
        U1, S = torch.linalg.qr(U0 @ S0 + step.dK)
        return Factors(U1, S, V0)

    def after_S(self, step: LayerStep) -> Factors:
        return step.base._replace(S=step.base.S + step.dS)

    def after_L(self, step: LayerStep) -> Factors:
        U1, S, V0 = step.base
        V1, St = torch.linalg.qr(V0 @ S.mT + step.dL)
        return Factors(U1, St.mT, V1)
