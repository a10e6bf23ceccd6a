"""Parameter counts and compression, as each paper counts them; biases are counted nowhere.

    convention   evaluation             training                    layers without a rank
    dlrt         Σ r(m+n)               Σ [2r(m+n) + (2r)²]         counted, m n each
    lenet        Σ r(m+n)               Σ [r(m+n) + r²]             counted, m n each
    abc_psi      Σ r(m+n)               Σ r(m+n)                    left out
    vit          Σ [r(m+n) + r²]        Σ [r(m+n) + r²]             left out
    lora         Σ r(m+n)               Σ r(m+n)                    left out

`dlrt` is DLRT, 2022, Tables 5, 6 and 8: training counts the S-step in bases of 2r columns, even where 2r exceeds
min(m, n). `lenet` is its Table 7. `abc_psi` is the MNIST part of abc-PSI, 2025 (its compression rate of §6.1 and
the M, millions, of Tables 1 and 2); it prints no training counts, and the figure here is the memory that §6.2
names for a K- or L-step, which leaves out that the augmented L-step holds 2r columns. `vit` and `lora` are the
adapters of its Table 3 (§6.2), where M is 2²⁰ (`mebi`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class LayerShape:
    """A weight matrix, m outputs × n inputs, held as factors of rank `rank` (0: all of it masked), or dense if None."""

    name: str
    m: int
    n: int
    rank: int | None

    def __post_init__(self) -> None:
        if min(self.m, self.n) < 1:
            raise ValueError(f"layer {self.name!r} is {self.m} × {self.n}; m and n must be at least 1")
        if self.rank is not None and self.rank < 0:
            raise ValueError(f"layer {self.name!r} has rank {self.rank}; use 0 or more, or None if it is dense")


@dataclass(frozen=True)
class Counts:
    """Parameters to evaluate the network, to train it, and of the same layers dense."""

    eval_params: int
    train_params: int
    dense_params: int

    @property
    def compression(self) -> float:
        """1 − eval_params / dense_params, a fraction: 0.9 where a paper prints 90 %; 0 if nothing is counted."""
        return _saved(self.eval_params, self.dense_params)

    @property
    def train_compression(self) -> float:
        """1 − train_params / dense_params; negative where training needs more than the dense network."""
        return _saved(self.train_params, self.dense_params)


def _saved(params: int, dense: int) -> float:
    return 1 - params / dense if dense else 0.0


@dataclass(frozen=True)
class _Convention:
    eval_params: Callable[[int, int, int], int]  # of m, n, r
    train_params: Callable[[int, int, int], int]
    counts_dense: bool


def _two_factors(m: int, n: int, r: int) -> int:
    return r * (m + n)


def _three_factors(m: int, n: int, r: int) -> int:
    return r * (m + n) + r**2


def _augmented(m: int, n: int, r: int) -> int:
    return _three_factors(m, n, 2 * r)


_CONVENTIONS = {
    "dlrt": _Convention(_two_factors, _augmented, counts_dense=True),
    "lenet": _Convention(_two_factors, _three_factors, counts_dense=True),
    "abc_psi": _Convention(_two_factors, _two_factors, counts_dense=False),
    "vit": _Convention(_three_factors, _three_factors, counts_dense=False),
    "lora": _Convention(_two_factors, _two_factors, counts_dense=False),
}


def count(layers: Iterable[LayerShape], convention: str = "dlrt") -> Counts:
    """Parameter counts of `layers` under a convention of the table at the head of this module.

    Raises:
        ValueError: unknown convention.
    """
    if convention not in _CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}; choose one of {', '.join(_CONVENTIONS)}")
    rule = _CONVENTIONS[convention]
    evaluation = training = dense = 0
    for layer in layers:
        m, n, r = layer.m, layer.n, layer.rank
        if r is None and not rule.counts_dense:
            continue
        dense += m * n
        evaluation += m * n if r is None else rule.eval_params(m, n, r)
        training += m * n if r is None else rule.train_params(m, n, r)
    return Counts(evaluation, training, dense)


def mebi(params: float) -> float:
    """`params` in units of 2²⁰, the M of Table 3 of abc-PSI, 2025."""
    return params / 2**20


def layer_shapes(model: nn.Module) -> list[LayerShape]:
    """The weight matrices of `model`, in the order of its modules, by qualified name.

    A module with attributes `rank` and `matrix_shape` is a low-rank layer. nn.Linear is dense m × n and nn.Conv2d
    dense F × (C / groups) J K. Weights of other modules are not counted.
    """
    return [shape for name, module in model.named_modules() if (shape := _shape(name, module))]


def _shape(name: str, module: Any) -> LayerShape | None:
    if hasattr(module, "rank") and hasattr(module, "matrix_shape"):
        m, n = module.matrix_shape
        return LayerShape(name, m, n, module.rank)
    if isinstance(module, nn.Linear | nn.Conv2d):
        return LayerShape(name, len(module.weight), module.weight[0].numel(), rank=None)
    return None
