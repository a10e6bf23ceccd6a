"""The floating-point floor of a step: operations that no implementation of the equations saves (docs/cost.md).

Letters: m outputs, n inputs, b rows (batch; of a convolution batch · H' · W'), r rank, k = min(r, m − r, b) and
l = min(r, n − r, b) columns that U and V gain. A multiplication and an addition are two operations. What is linear in
m, n or b alone (activations, biases, updates) is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dlrt import LowRankLayer
from dlrt.layers import LowRankConv2d


@dataclass(frozen=True)
class Shape:
    """One layer in a step. rank None: dense; `first`: nothing before it needs a gradient."""

    m: int
    n: int
    b: int
    rank: int | None
    first: bool


@dataclass(frozen=True)
class Floor:
    """Operations of a step by its parts; `core`, the small SVD, is rough and stands apart from the `total`."""

    network: float = 0.0
    augmentation: float = 0.0
    rotation: float = 0.0
    core: float = 0.0

    @property
    def total(self) -> float:
        """Network products, augmentation and rotation."""
        return self.network + self.augmentation + self.rotation

    def __add__(self, other: Floor) -> Floor:
        return Floor(
            self.network + other.network,
            self.augmentation + other.augmentation,
            self.rotation + other.rotation,
            self.core + other.core,
        )


def dense(s: Shape) -> float:
    """x Wᵀ, δᵀ x and, unless first, δ W."""
    return 2 * (2 if s.first else 3) * s.b * s.m * s.n


def passes(s: Shape, r: int) -> float:
    """Forward ((x V) Sᵀ) Uᵀ and backward ((δ U) S) Vᵀ, the latter's δ U alone if first."""
    forward = s.b * (s.n * r + r * r + r * s.m)
    backward = s.b * s.m * r if s.first else forward
    return 2 * (forward + backward)


def old_products(s: Shape, r: int) -> float:
    """G V = δᵀ (x V) and Gᵀ U = xᵀ (δ U), from what the passes have left."""
    return 2 * s.b * (s.m + s.n) * r


def core_products(s: Shape, r: int, k: int, l: int) -> float:  # noqa: E741
    """The four blocks of [U, Ũ]ᵀ G [V, Ṽ], each by its cheapest order."""
    m, n, b = s.m, s.n, s.b
    known = min(b, m, n) * r * r + min(b, m) * r * k + min(b, n) * r * l
    through_rows = b * m * k + b * n * l + b * k * l  # (δ Ũ)ᵀ (x Ṽ)
    through_left = b * (m + n) * k + n * k * l  # (xᵀ (δ Ũ))ᵀ Ṽ
    through_right = b * (m + n) * l + m * k * l
    return 2 * (known + min(through_rows, through_left, through_right))


def through_matrix(s: Shape, r: int) -> float:
    """Y and G formed, as for a dense layer, and G V and Gᵀ U of them: cheaper where r is not small."""
    return dense(s) + 6 * s.m * s.n * r


def matrix_core(s: Shape, r: int, k: int, l: int) -> float:  # noqa: E741
    """The four blocks of [U, Ũ]ᵀ G [V, Ṽ] from G itself."""
    known = min(s.m, s.n) * r * r + s.m * r * k + s.n * r * l
    return 2 * (known + min(s.m * l * (s.n + k), s.n * k * (s.m + l)))


def complement(m: int, r: int, k: int) -> float:
    """(I − U Uᵀ) D once, 4 m r², and k orthonormal columns of it."""
    return 4 * m * r * r + orthonormalisation(m, k)


def orthonormalisation(m: int, k: int) -> float:
    """Gram–Schmidt of m × k; Cholesky QR needs k³/3 more, Householder QR with its Q twice as many."""
    return 2 * m * k * k


def svd(k: int) -> float:
    """Golub and Reinsch's count for a k × k core with both bases."""
    return 21 * k**3


def aug_bug(s: Shape) -> Floor:
    """K-, L- and S-flow from one gradient, both bases augmented, the core (r + k) × (r + l) truncated."""
    r, k, l = _columns(s)  # noqa: E741
    return Floor(
        network=min(
            passes(s, r) + old_products(s, r) + core_products(s, r, k, l),
            through_matrix(s, r) + matrix_core(s, r, k, l),
        ),
        augmentation=complement(s.m, r, k) + complement(s.n, r, l),
        rotation=2 * r * (s.m * (r + k) + s.n * (r + l)),
        core=svd(r + max(k, l)),
    )


def abc_psi(s: Shape) -> Floor:
    """K-flow, U augmented, L-flow with Û, and the truncation of L (n × (r + k)) by QR and an SVD."""
    r, k, _ = _columns(s)
    columns = min(r + k, s.n)
    return Floor(
        network=min(
            passes(s, r) + old_products(s, r) + 2 * s.b * (s.m + s.n) * k,
            through_matrix(s, r) + 2 * s.m * s.n * k,
        ),
        augmentation=complement(s.m, r, k) + orthonormalisation(s.n, columns),
        rotation=2 * r * (s.m * (r + k) + s.n * columns),
        core=svd(columns),
    )


def _columns(s: Shape) -> tuple[int, int, int]:
    assert s.rank is not None
    return s.rank, max(0, min(s.rank, s.m - s.rank, s.b)), max(0, min(s.rank, s.n - s.rank, s.b))


FLOORS: dict[str, Callable[[Shape], Floor]] = {"aug_bug": aug_bug, "abc_psi": abc_psi}


def floor(shapes: Iterable[Shape], integrator: str) -> Floor | None:
    """The sum over all layers, dense ones included; None for an integrator without a formula."""
    if integrator not in FLOORS:
        return None
    parts = [Floor(network=dense(s)) if s.rank is None else FLOORS[integrator](s) for s in shapes]
    return sum(parts, Floor())


def shapes_of(net: nn.Module, x: Tensor) -> list[Shape]:
    """The layers of `net` in the order of its forward pass on the batch x, with their rows b."""
    found: list[Shape] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        rank = layer.rank if isinstance(layer, LowRankLayer) else None
        m, n = layer.matrix_shape if isinstance(layer, LowRankLayer) else cast(Tensor, layer.weight).flatten(1).shape
        outputs = out.shape[1] if isinstance(layer, nn.Conv2d | LowRankConv2d) else out.shape[-1]
        found.append(Shape(m, n, out.numel() // outputs, rank, first=not found))

    layers = [m for m in net.modules() if isinstance(m, LowRankLayer | nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found
