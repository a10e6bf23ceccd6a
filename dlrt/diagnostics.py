"""What to look at when a run surprises."""

from __future__ import annotations

import torch
from torch import nn

from dlrt.closures import Closure, Replay, gradient_pass
from dlrt.integrators import Integrator
from dlrt.surgery import low_rank_layers
from dlrt.tape import recording


@torch.no_grad()
def outside_tangent(model: nn.Module, closure: Closure) -> dict[str, float]:
    """‖(I − P(Y)) G‖ / ‖G‖ of each low-rank layer: the share of the gradient that its tangent space cannot follow.

    The ε of the papers' error bounds, relative. Forms G (m, n). Parameters, their gradients, buffers and random
    generators are left as they were; a layer the loss does not depend on is left out.
    """
    parameters = list(model.parameters())
    grads = [p.grad for p in parameters]
    model.zero_grad()  # lets go of the gradients, so that the pass does not add to them
    with Replay(model).again(), recording(low_rank_layers(model)) as tapes:
        gradient_pass(closure, parameters, tapes)
    for p, grad in zip(parameters, grads, strict=True):
        p.grad = grad
    shares = {}
    for name, tape in tapes.items():
        if tape.reached:
            G, (U, _, V) = tape.dense(), tape.Y
            outside = G - U @ (U.mT @ G)
            outside = outside - (outside @ V) @ V.mT
            norm = float(torch.linalg.matrix_norm(G))
            shares[name] = float(torch.linalg.matrix_norm(outside)) / norm if norm else 0.0
    return shares


def orthogonality_drift(model: nn.Module) -> dict[str, float]:
    """max(|UᵀU − I|, |VᵀV − I|) of each low-rank layer.

    Between the truncations of `inner_steps` > 1 a layer holds K or L in place of a basis, and the drift is large.
    """
    return {name: layer.orthogonality_drift() for name, layer in low_rank_layers(model).items()}


def at_max_rank(integrator: Integrator) -> list[str]:
    """Layers whose rank the bound `max_rank`, or their own size, holds back."""
    bound = integrator.param_groups[0]["max_rank"]
    sizes = {name: min(layer.matrix_shape) for name, layer in integrator.layers.items()}
    highest = {name: size if bound is None else min(bound, size) for name, size in sizes.items()}
    return [name for name, layer in integrator.layers.items() if layer.rank >= highest[name]]
