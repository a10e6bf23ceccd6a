"""The floor's formulae against what torch counts, and against the figures that they were estimated at before."""

from __future__ import annotations

import pytest
import torch
from problems import dense_net
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import dlrt
from dlrt.closures import gradient_pass
from dlrt.tape import recording
from experiments import models
from experiments.benchmark import floor
from experiments.benchmark.floor import Shape

LAYER = Shape(m=20, n=30, b=8, rank=4, first=False)


def operations(work: object) -> int:
    with FlopCounterMode(display=False) as counter:
        work()  # type: ignore[operator]
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_passes_and_old_products_are_those_that_torch_counts(kind: str) -> None:
    net, x, _ = dense_net(kind)
    model = dlrt.factorize(net, rank=2, init="orthonormal")
    shapes, layers = floor.shapes_of(model, x), dlrt.low_rank_layers(model)
    assert [(s.m, s.n, s.rank) for s in shapes] == [(*layer.matrix_shape, layer.rank) for layer in layers.values()]
    with recording(layers) as tapes:
        counted = operations(lambda: gradient_pass(lambda: model(x).sum(), [], tapes))
    assert counted == sum(floor.passes(s, 2) for s in shapes)
    counted = operations(lambda: [(tape.GV, tape.GtU) for tape in tapes.values()])
    assert counted == sum(floor.old_products(s, 2) for s in shapes)


def test_with_the_matrices_formed_the_passes_are_dense() -> None:
    net, x, _ = dense_net("mlp")
    model = dlrt.factorize(net, rank={"*": 8})
    shapes, layers = floor.shapes_of(model, x), dlrt.low_rank_layers(model)
    products = sum(2 * s.m * s.n * (s.rank or 0) for s in shapes)  # of G with V, and with U
    with recording(layers) as tapes:
        counted = operations(lambda: gradient_pass(lambda: model(x).sum(), [], tapes))
        counted += operations(lambda: [(tape.GV, tape.GtU) for tape in tapes.values()])
    assert counted == sum(floor.through_matrix(s, s.rank or 0) for s in shapes) - products  # Y's own, made before


@pytest.mark.parametrize("integrator", ["aug_bug", "abc_psi"])
def test_a_layer_takes_the_cheaper_of_thin_products_and_matrices(integrator: str) -> None:
    low, high = (Shape(20, 25, 10_000, rank, first=True) for rank in (2, 10))
    thin, full = (floor.FLOORS[integrator](s).network for s in (low, high))
    assert thin < floor.dense(low) < full < floor.passes(high, 10) + floor.old_products(high, 10)


@pytest.mark.parametrize("net", [models.mlp(width=12, depth=3), models.lenet5()], ids=["mlp", "lenet5"])
def test_the_dense_step_is_what_torch_counts(net: nn.Module) -> None:
    x = torch.randn(4, 1, 28, 28)
    expected = sum(map(floor.dense, floor.shapes_of(net, x)))
    assert operations(lambda: net(x).sum().backward()) == expected


@pytest.mark.parametrize(
    ("order", "b", "k", "l"), [("rows", 8, 4, 4), ("left", 500, 2, 6), ("right", 500, 6, 2), ("right", 3, 4, 0)]
)
def test_the_last_block_of_the_core_is_taken_in_the_cheapest_order(order: str, b: int, k: int, l: int) -> None:  # noqa: E741
    s = Shape(20, 30, b, rank=4, first=False)
    x, delta, U, V = torch.randn(b, 30), torch.randn(b, 20), torch.randn(20, k), torch.randn(30, l)
    orders = {
        "rows": lambda: (delta @ U).mT @ (x @ V),
        "left": lambda: (x.mT @ (delta @ U)).mT @ V,
        "right": lambda: U.mT @ (delta.mT @ (x @ V)),
    }
    counted = {name: operations(work) for name, work in orders.items()}
    known = 2 * (min(b, 20, 30) * 16 + min(b, 20) * 4 * k + min(b, 30) * 4 * l)
    assert floor.core_products(s, 4, k, l) - known == counted[order] == min(counted.values())


def test_projection_and_rotation_are_counted_products() -> None:
    U, D, A = torch.randn(20, 4), torch.randn(20, 4), torch.randn(8, 4)
    projected = operations(lambda: U @ (U.mT @ D))
    assert floor.complement(20, 4, 4) - floor.orthonormalisation(20, 4) == projected
    rotated = operations(lambda: (torch.randn(20, 8) @ A, torch.randn(30, 8) @ A))
    assert floor.aug_bug(LAYER).rotation == floor.abc_psi(LAYER).rotation == rotated


@pytest.mark.parametrize(("rank", "rough"), [(10, 0.007), (40, 0.03), (80, 0.065), (160, 0.153), (320, 0.40)])
@pytest.mark.parametrize("integrator", ["aug_bug", "abc_psi"])
def test_the_rough_floor_of_the_wide_net_is_confirmed(integrator: str, rank: int, rough: float) -> None:
    low_rank = [Shape(5120, 784, 500, rank, True)] + [Shape(5120, 5120, 500, rank, False)] * 3
    shapes = [*low_rank, Shape(10, 5120, 500, None, False)]
    parts = floor.floor(shapes, integrator)
    assert parts is not None
    ratio = parts.total / sum(map(floor.dense, shapes))
    assert 0.85 * rough < ratio < rough  # the rough one has Householder's operations


def test_a_batch_smaller_than_the_rank_or_a_full_rank_gains_fewer_columns() -> None:
    few = floor.aug_bug(Shape(20, 30, 2, rank=4, first=False))
    assert few.rotation == 2 * 4 * (20 * 6 + 30 * 6)
    full = floor.aug_bug(Shape(4, 30, 8, rank=4, first=False))
    assert full.rotation == 2 * 4 * (4 * 4 + 30 * 8)


def test_an_integrator_without_a_formula_has_no_floor() -> None:
    assert floor.floor([LAYER], "psi") is None


def test_rows_of_a_convolution_are_its_outputs() -> None:
    x: Tensor = torch.randn(3, 1, 28, 28)
    assert [s.b for s in floor.shapes_of(models.lenet5(), x)] == [3 * 24 * 24, 3 * 8 * 8, 3, 3]
