from __future__ import annotations

from torch import Tensor, nn

from dlrt.baselines.dense import Dense
from dlrt.surgery import low_rank_layers


class SVDFactor(Dense):
    """Simultaneous descent on U, S and V (and all other parameters) by one torch optimiser: no integrator.

    The bases do not stay orthonormal, the rank does not change, and the gradients of U and V carry a factor S, so that
    small singular values slow them: what the integrators are built to avoid. `decay` shrinks S.

    Raises:
        ValueError: the model has no low-rank layer.
    """

    @staticmethod
    def _decayed(model: nn.Module) -> list[Tensor]:
        layers = low_rank_layers(model)
        if not layers:
            raise ValueError("the model has no low-rank layer: call dlrt.factorize(model, ...) first")
        return [layer.S for layer in layers.values()]
