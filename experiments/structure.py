"""Ranks, parameter counts and spectra of a network, as a record holds them.

Of a network with adapters they are those of the adapters, by the name of the layer they adapt: its other weights are
nobody's choice. Compression is then that of the adapters against the weights they are added to.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dlrt import Factors, accounting, low_rank_layers
from dlrt.accounting import LayerShape
from dlrt.adapters import LoRALayer, adapters_of


def layers_of(net: nn.Module) -> Mapping[str, Any]:
    """The adapters by the name of the layer they adapt, else the low-rank layers by name."""
    return adapters_of(net) or low_rank_layers(net)


def shapes_of(net: nn.Module) -> list[LayerShape]:
    """The weight matrices that are counted: the adapters, else those of all layers."""
    if adapters := adapters_of(net):
        return [LayerShape(name, *layer.matrix_shape, layer.rank) for name, layer in adapters.items()]
    return accounting.layer_shapes(net)


def structure_of(net: nn.Module) -> dict[str, Any]:
    """Ranks of the low-rank layers, and evaluation and training parameters and compression of all layers.

    Of adapters also `adapter_params`, as abc-PSI, 2025, Table 3, counts them.
    """
    shapes, layers = shapes_of(net), layers_of(net)
    counts = accounting.count(shapes)
    structure = {
        "ranks": {name: layer.rank for name, layer in layers.items()},
        "eval_params": counts.eval_params,
        "train_params": counts.train_params,
        "compression": counts.compression,
    }
    if adapters_of(net):
        lora = all(isinstance(layer, LoRALayer) for layer in layers.values())
        structure["adapter_params"] = accounting.count(shapes, "lora" if lora else "vit").eval_params
    return structure


def final_structure(net: nn.Module) -> dict[str, Any]:
    """`structure_of` and what else tables count: shapes, dense parameters, Σ r(m + n) over the low-rank layers.

    `trainable_params` are the numbers that the optimiser changes, biases included.
    """
    shapes = shapes_of(net)
    counts = accounting.count(shapes)
    return structure_of(net) | {
        "shapes": {shape.name: [shape.m, shape.n] for shape in shapes},
        "dense_params": counts.dense_params,
        "train_compression": counts.train_compression,
        "params_low_rank": accounting.count(shapes, "abc_psi").eval_params,
        "trainable_params": sum(p.numel() for p in net.parameters() if p.requires_grad),
    }


def spectrum_of(net: nn.Module) -> dict[str, list[float]]:
    """Singular values of each low-rank layer, descending, to six digits."""
    return {name: _singular_values(layer.factors) for name, layer in layers_of(net).items()}


def _singular_values(factors: Factors) -> list[float]:
    # U and V are orthonormal after a step of an integrator, but not within its inner steps nor under a baseline.
    U, S, V = (x.double().cpu() for x in factors)
    values = torch.linalg.svdvals(torch.linalg.qr(U).R @ S @ torch.linalg.qr(V).R.mT)
    return [float(f"{value:.6g}") for value in values.tolist()]
