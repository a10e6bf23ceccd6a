"""Prediction by a low-rank model: each layer in the plain form that is measured to be faster."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from glob import escape
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dlrt.adapters import merge_adapters
from dlrt.layers import LowRankLayer
from dlrt.surgery import low_rank_layers, merge

Timing = Callable[[Sequence[nn.Module], Tensor], Sequence[float]]
MARGIN = 0.95  # of the dense layer's count and seconds: what thin ones must stay below, as times are noisy


def seconds_of(forms: Sequence[nn.Module], x: Tensor, rounds: int = 20, budget: float = 0.2) -> list[float]:
    """The least seconds that each form takes for x, all of them in turn.

    Two rounds if one form is then twice as fast as another, else at least three, and more while `budget` seconds last.
    On a GPU a time is that of ten calls in a row: a single short kernel would cost what its launch costs.
    """
    calls = 10 if x.is_cuda else 1
    best, start = [float("inf")] * len(forms), time.perf_counter()
    for i in range(rounds):
        clear = i == 2 and max(best) > 2 * min(best)
        if clear or (i > 2 and time.perf_counter() - start > budget):
            break
        best = [min(known, _seconds(form, x, calls)) for known, form in zip(best, forms, strict=True)]
    return best


def _seconds(form: nn.Module, x: Tensor, calls: int) -> float:
    _synchronize(x)
    start = time.perf_counter()
    for _ in range(calls):
        form(x)
    _synchronize(x)
    return (time.perf_counter() - start) / calls


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


@torch.no_grad()
def predictor(model: nn.Module, *inputs: Any, timing: Timing = seconds_of) -> nn.Module:
    """A copy of the model for prediction (DLRT, 2022, Table 4): plain torch layers, in eval mode, all frozen.

    For each row of x a layer z = x (U S Vᵀ)ᵀ + bias of rank r costs r (m + n) multiply-adds as two thin products,
    p = x V and z = p (U S)ᵀ + bias, and m n as a dense one. The counts cross at r = m n / (m + n), the times below it:
    thin products run further from the machine's peak, and p goes through memory once more. Where the times cross
    depends on machine, layer and batch. So each layer whose thin form has fewer multiply-adds (by 5 %) is timed in
    both forms on what reaches it, and becomes the faster one, in doubt the dense one. The others become dense.

    Adapters are merged into the weights that they adapt: they take no time.

    Args:
        inputs: what the model is called with; as many rows, on the same device, as there will be.
        timing: the seconds of several forms of a layer, here thin and dense, on its input. Those of a layer that is
            called more than once add up. One that is not called becomes thin.
    """
    model = merge_adapters(copy.deepcopy(model)).eval().requires_grad_(False)
    layers = low_rank_layers(model)
    times = {layer: torch.zeros(2) for layer in layers.values() if _count(layer) < MARGIN * prod(layer.matrix_shape)}

    def compare(layer: LowRankLayer, args: tuple[Tensor, ...], output: Tensor) -> None:
        if not args:
            raise ValueError(
                "the model calls a low-rank layer as layer(x=…), which plain layers cannot take: use layer(…)"
            )
        forms = merge(copy.deepcopy(layer)), merge(copy.deepcopy(layer), dense="*")
        times[layer] += torch.tensor(timing(forms, args[0]))

    hooks = [layer.register_forward_hook(compare) for layer in times]
    model(*inputs)
    for hook in hooks:
        hook.remove()
    fast = {layer for layer, (thin, dense) in times.items() if thin <= MARGIN * dense}
    return merge(model, dense=[escape(name) for name, layer in layers.items() if layer not in fast])


def _count(layer: LowRankLayer) -> int:
    return layer.rank * sum(layer.matrix_shape)
