from __future__ import annotations

from dlrt.engine import LayerStep
from dlrt.factors import Factors
from dlrt.integrators.base import Integrator
from dlrt.linalg import orthonormalize


class BUG(Integrator):
    """Basis-update & Galerkin integrator of fixed rank, KLS (DLRT, 2022, section 4; abc-PSI, 2025, equation (3.2)).

        K-step  K(t₁) = U₀S₀ − h G(Y₀) V₀          U₁ = ortho(K(t₁))                        (3.2a)
        L-step  L(t₁) = V₀S₀ᵀ − h G(Y₀)ᵀ U₀        V₁ = ortho(L(t₁))                        (3.2b)
        S-step  S₁ = S̄ − h U₁ᵀ G(U₁S̄V₁ᵀ) V₁,       S̄ = U₁ᵀU₀ S₀ V₀ᵀV₁                      (3.2c)

    Rank: fixed. Gradient points per step: 2, as K- and L-step both start at Y₀. The projection S̄ may increase the loss.
    Differs from `AugmentedBUG` in replacing the bases instead of augmenting them.
    """

    flows = ("K", "L", "S")
    new_points = frozenset({"S"})

    def after_L(self, step: LayerStep) -> Factors:
        U0, S0, V0 = step.base
        U1, V1 = orthonormalize(U0 @ S0 + step.dK), orthonormalize(V0 @ S0.mT + step.dL)
        return Factors(U1, (U1.mT @ U0) @ S0 @ (V0.mT @ V1), V1)

    def after_S(self, step: LayerStep) -> Factors:
        return step.base._replace(S=step.base.S + step.dS)
