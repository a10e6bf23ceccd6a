"""The papers' networks: names, shapes and counts of the layers, and what they compute."""

import pytest
import torch
from torch import nn

from experiments import models


def matrices(model):
    """The matrix shape of every weight by layer name."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    return {name: tuple(layer.weight.flatten(1).shape) for name, layer in layers.items()}


def test_mlp_layers_and_count():
    model = models.mlp()
    assert matrices(model) == {
        "hidden.0": (500, 784),
        "hidden.1": (500, 500),
        "hidden.2": (500, 500),
        "hidden.3": (500, 500),
        "output": (10, 500),
    }
    assert sum(m * n for m, n in matrices(model).values()) == 784 * 500 + 3 * 250_000 + 5_000 == 1_147_000
    assert sum(p.numel() for p in model.parameters()) == 1_147_000 + 4 * 500 + 10
    assert sum(p.numel() for p in models.mlp(bias=False).parameters()) == 1_147_000


def test_mlp_draws_all_weights_and_biases_from_a_normal_distribution():
    torch.manual_seed(0)
    for parameter in models.mlp(init="normal").parameters():
        noise = 5 / parameter.numel() ** 0.5
        assert abs(parameter.mean()) < noise and abs(parameter.std() - 1) < noise
    assert all(parameter.abs().max() < 0.1 for parameter in models.mlp().parameters())
    with pytest.raises(ValueError, match="init is 'he': use torch or normal"):
        models.mlp(init="he")


def test_mlp_computes_relu_layers():
    torch.manual_seed(0)
    model = models.mlp(in_features=6, width=5, depth=3, classes=4)
    x = torch.randn(7, 1, 2, 3)
    w0, b0, w1, b1, w2, b2 = model.parameters()
    h = (x.reshape(7, 6) @ w0.T + b0).clamp(min=0)
    h = (h @ w1.T + b1).clamp(min=0)
    torch.testing.assert_close(model(x), h @ w2.T + b2)


def test_mlp_of_one_layer_is_the_output_layer():
    assert matrices(models.mlp(in_features=6, depth=1)) == {"output": (10, 6)}


@pytest.mark.parametrize("values", [{"width": 0}, {"depth": -1}, {"classes": 2.5}, {"in_features": None}])
def test_mlp_refuses_impossible_sizes(values):
    key, value = next(iter(values.items()))
    with pytest.raises(ValueError, match=f"{key} is {value}: give a positive integer"):
        models.mlp(**values)


def test_lenet5_has_the_matrices_of_table_7():
    model = models.lenet5()
    assert matrices(model) == {"conv.0": (20, 25), "conv.1": (50, 500), "hidden": (500, 800), "output": (10, 500)}
    assert sum(m * n for m, n in matrices(model).values()) == 430_500


def test_lenet5_computes_pooled_relu_convolutions():
    torch.manual_seed(0)
    model = models.lenet5(classes=3)
    x = torch.randn(2, 1, 28, 28)
    k0, c0, k1, c1, w2, b2, w3, b3 = model.parameters()
    h = torch.relu(torch.max_pool2d(torch.conv2d(x, k0, c0), 2))
    h = torch.relu(torch.max_pool2d(torch.conv2d(h, k1, c1), 2)).reshape(2, 800)
    torch.testing.assert_close(model(x), torch.relu(h @ w2.T + b2) @ w3.T + b3)


@pytest.mark.parametrize("net", [models.mlp(dropout=0.3), models.lenet5(dropout=0.3)])
def test_dropout_acts_behind_hidden_layers_in_training_only(net):
    drops = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
    assert set(drops) == {0.3} and len(drops) in (1, 4)
    x = torch.randn(2, 1, 28, 28)
    assert not torch.equal(net.train()(x), net(x)) and torch.equal(net.eval()(x), net(x))
