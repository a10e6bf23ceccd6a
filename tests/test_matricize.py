"""The views' products against matrices: patches unfolded, the full weight by torch's own convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dlrt.matricize import ConvView, LinearView

VIEWS = [
    ConvView(1, (5, 5), (1, 1), (0, 0), (1, 1)),
    ConvView(3, (3, 2), (2, 1), (1, 2), (1, 2)),
    ConvView(4, (1, 1), (1, 1), (0, 0), (1, 1)),
]
FORMATS = [torch.contiguous_format, torch.channels_last]


def patches(view: ConvView, x: torch.Tensor) -> torch.Tensor:
    """The rows (b·H'·W', CJK) that the view stands for."""
    return F.unfold(x, view.kernel, view.dilation, view.padding, view.stride).mT.flatten(0, 1)


def rows(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1).flatten(0, 2)


def laid_out(x: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    # contiguous() leaves images of one channel as they are
    return torch.empty_like(x, memory_format=memory_format).copy_(x)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("view", VIEWS)
def test_a_convolutions_products_are_those_of_its_patches(view, memory_format, double):
    """For 6 filters, of rank 2; δ has the memory format of the output."""
    x = laid_out(torch.randn(3, view.channels, 9, 8), memory_format)
    X = patches(view, x)
    n = X.shape[1]
    U, V, bias = torch.randn(6, 2), torch.randn(n, 2), torch.randn(6)
    a = view.right(x, V)
    torch.testing.assert_close(rows(a), X @ V)
    z = view.expand(a, U, bias)
    torch.testing.assert_close(rows(z), X @ V @ U.mT + bias)
    dense = F.conv2d(x, view.weight(U @ V.mT), bias, view.stride, view.padding, view.dilation)
    torch.testing.assert_close(z, dense)
    assert a.is_contiguous(memory_format=memory_format) and z.is_contiguous(memory_format=memory_format)

    delta = laid_out(torch.randn(z.shape), memory_format)
    torch.testing.assert_close(rows(view.left(delta, U)), rows(delta) @ U)
    torch.testing.assert_close(view.inner(delta, a), rows(delta).mT @ X @ V)
    torch.testing.assert_close(view.adjoint(x, delta), X.mT @ rows(delta))


def test_inner_takes_cotangents_of_any_layout(double):
    """Autograd hands over expanded cotangents, as those of a sum, and slices of larger tensors."""
    view, a = VIEWS[0], torch.randn(2, 3, 4, 4)
    sliced = torch.randn(2, 9, 4, 8)[:, ::2, :, 1:5]
    for delta in (torch.randn(()).expand(2, 5, 4, 4), sliced, sliced.contiguous(memory_format=torch.channels_last)):
        expected = torch.einsum("bfhw,brhw->fr", delta, a)
        torch.testing.assert_close(view.inner(delta, a), expected)
    p = torch.randn(()).expand(2, 3, 6, 6)
    torch.testing.assert_close(LinearView().inner(p, p), torch.einsum("bchi,bchj->ij", p, p))


def test_linear_products_keep_all_leading_dimensions(double):
    view, x, V, U, bias = LinearView(), torch.randn(2, 3, 7), torch.randn(7, 2), torch.randn(5, 2), torch.randn(5)
    a, delta = view.right(x, V), torch.randn(2, 3, 5)
    torch.testing.assert_close(view.expand(a, U, bias), torch.einsum("bcn,nr,mr->bcm", x, V, U) + bias)
    torch.testing.assert_close(view.left(delta, U), torch.einsum("bcm,mr->bcr", delta, U))
    torch.testing.assert_close(view.inner(delta, a), torch.einsum("bcm,bcr->mr", delta, a))
    torch.testing.assert_close(view.adjoint(x, a), torch.einsum("bcn,bcr->nr", x, a))
