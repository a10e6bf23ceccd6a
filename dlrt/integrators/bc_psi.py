from __future__ import annotations

import torch

from dlrt.engine import LayerStep
from dlrt.factors import Factors
from dlrt.integrators.base import Integrator
from dlrt.linalg import orthonormalize


class BackwardCorrectedPSI(Integrator):
    """Backward-corrected projector-splitting integrator, bc-PSI (abc-PSI, 2025), equation (3.4).

        K-step      K(t₁) = U₀S₀ − h G(Y₀) V₀                 U₁ = ortho(K(t₁))            (3.4a)
        projection  S̄     = U₁ᵀU₀ S₀                                                       (3.4b)
        L-step      L(t₁) = V₀S̄ᵀ − h G(U₁S̄V₀ᵀ)ᵀ U₁            V₁ S₁ᵀ = L(t₁) by QR         (3.4c)

    Rank: fixed. Gradient points per step: 2. Descent is not guaranteed: the projection loses (I − U₁U₁ᵀ)Y₀ (Lemma 5.4).
    Differs from `PSI` in the projection, from `AugmentedBackwardCorrectedPSI` in not augmenting U₁ by U₀.
    """

    flows = ("K", "L")
    new_points = frozenset({"L"})

    def after_K(self, step: LayerStep) -> Factors:
        U0, S0, V0 = step.base
        U1 = orthonormalize(U0 @ S0 + step.dK)
        return Factors(U1, (U1.mT @ U0) @ S0, V0)

    def after_L(self, step: LayerStep) -> Factors:
        U1, S, V0 = step.base
        V1, St = torch.linalg.qr(V0 @ S.mT + step.dL)
        return Factors(U1, St.mT, V1)
