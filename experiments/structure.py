"""Ranks, parameter counts and spectra of a network, as a record holds them."""

from typing import Any

import torch
from torch import nn

from dlrt import LowRankLayer, accounting, low_rank_layers


def structure_of(net: nn.Module) -> dict[str, Any]:
    """Ranks of the low-rank layers, and evaluation and training parameters and compression of all layers."""
    counts = accounting.count(accounting.layer_shapes(net))
    return {
        "ranks": {name: layer.rank for name, layer in low_rank_layers(net).items()},
        "eval_params": counts.eval_params,
        "train_params": counts.train_params,
        "compression": counts.compression,
    }


def final_structure(net: nn.Module) -> dict[str, Any]:
    """`structure_of` and what else tables count: shapes, dense parameters, Σ r(m + n) over the low-rank layers."""
    shapes = accounting.layer_shapes(net)
    counts = accounting.count(shapes)
    return structure_of(net) | {
        "shapes": {shape.name: [shape.m, shape.n] for shape in shapes},
        "dense_params": counts.dense_params,
        "train_compression": counts.train_compression,
        "params_low_rank": accounting.count(shapes, "abc_psi").eval_params,
    }


def spectrum_of(net: nn.Module) -> dict[str, list[float]]:
    """Singular values of each low-rank layer, descending, to six digits."""
    return {name: _singular_values(layer) for name, layer in low_rank_layers(net).items()}


def _singular_values(layer: LowRankLayer) -> list[float]:
    # U and V are orthonormal after a step of an integrator, but not within its inner steps nor under svd_factor.
    U, S, V = (x.double().cpu() for x in layer.factors)
    values = torch.linalg.svdvals(torch.linalg.qr(U).R @ S @ torch.linalg.qr(V).R.mT)
    return [float(f"{value:.6g}") for value in values.tolist()]
