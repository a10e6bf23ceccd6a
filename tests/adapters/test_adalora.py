from __future__ import annotations

import pytest
import torch

from dlrt.adapters import AdaLoRALayer
from dlrt.matricize import LinearView


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (6, 2.0)])
def test_y_is_the_sum_of_the_triplets(alpha, scale, double):
    layer = AdaLoRALayer((6, 9), 3, LinearView(), alpha)
    assert not layer.factors.dense().any()
    torch.nn.init.normal_(layer.sigma)
    triplets = zip(layer.sigma, layer.P.T, layer.Q.T, strict=True)
    Y = scale * sum(s * torch.outer(p, q) for s, p, q in triplets)
    torch.testing.assert_close(layer.factors.dense(), Y)
    torch.testing.assert_close(layer.weight, Y)
    x = torch.randn(4, 9)
    torch.testing.assert_close(layer(x), x @ Y.mT)


def test_masked_triplets_leave_y_but_not_the_layer(double):
    layer = AdaLoRALayer((6, 9), 3, LinearView())
    torch.nn.init.normal_(layer.sigma)
    kept = layer.sigma[1] * torch.outer(layer.P[:, 1], layer.Q[:, 1])
    layer.kept.copy_(torch.tensor([False, True, False]))
    layer.mask()
    torch.testing.assert_close(layer.weight, kept)
    assert (layer.rank, len(layer.sigma)) == (1, 3)
    assert layer.sigma.requires_grad


def test_the_bases_start_as_in_the_authors_code():
    layer = AdaLoRALayer((300, 400), 50, LinearView())
    for basis in (layer.P, layer.Q):
        torch.testing.assert_close(basis.std(), torch.tensor(0.02), rtol=0.03, atol=0)
