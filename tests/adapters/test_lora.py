from __future__ import annotations

import math

import pytest
import torch

from dlrt.adapters import LoRALayer
from dlrt.matricize import LinearView


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (4, 2.0), (0.5, 0.25)])
def test_y_is_the_scaled_product(alpha, scale, double):
    layer = LoRALayer((6, 9), 2, LinearView(), alpha)
    assert not layer.factors.dense().any()
    torch.nn.init.normal_(layer.A)
    Y = scale * layer.A @ layer.B.mT
    torch.testing.assert_close(layer.factors.dense(), Y)
    torch.testing.assert_close(layer.weight, Y)
    x = torch.randn(3, 9)
    torch.testing.assert_close(layer(x), x @ Y.mT)
    assert (layer.rank, layer.matrix_shape) == (2, (6, 9))


def test_b_is_drawn_as_a_linear_layers_weight():
    B = LoRALayer((5, 400), 300, LinearView()).B.detach()
    assert B.abs().max() <= 1 / math.sqrt(400)
    torch.testing.assert_close(B.std(), torch.tensor(1 / math.sqrt(3 * 400)), rtol=0.02, atol=0)
