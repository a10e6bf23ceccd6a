"""conf/model: every file has the same keys, and names a net that its kwargs build."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from experiments import models
from experiments.importing import resolve

CONF = Path(__file__).resolve().parents[3] / "conf" / "model"


def matrices(model):
    """The matrix shape of every weight by layer name."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    return {name: tuple(layer.weight.flatten(1).shape) for name, layer in layers.items()}


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mlp5_500", 1_147_000),
        ("mlp5_784", 4 * 784**2 + 7_840),
        ("mlp5_5120", 784 * 5120 + 3 * 5120**2 + 51_200),
        ("lenet5", 430_500),
    ],
)
def test_configs_build_the_nets_they_name(name, weights):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    assert config.name == name
    with torch.device("meta"):  # no memory and no random numbers for the 80 million weights of mlp5_5120
        model = models.build(config.target, **config.kwargs)
    assert sum(m * n for m, n in matrices(model).values()) == weights
    assert set(config.skip) == {"output"} < set(matrices(model))


@pytest.mark.parametrize(
    ("name", "parameters", "depth"),
    [
        ("vit_b_16", 86_567_656 - 990 * 769, 12),  # torchvision's published number, with 10 classes in place of 1,000
        ("vit_small", 22_056_576 - 384 - (37**2 - 8**2) * 384 + 3_850, 12),  # DINOv2's, less mask token and positions
        ("vit_tiny", 4 * (4 * 128 * 129 + 128 * 512 * 2 + 640 + 4 * 128) + 49 * 128 + 66 * 128 + 2 * 128 + 1_290, 4),
    ],
)
def test_expressions_of_adapters_hit_what_the_vit_configs_say(name, parameters, depth):
    config = OmegaConf.load(CONF / f"{name}.yaml")
    assert config.name == name
    with torch.device("meta"):
        model = models.build(config.target, **config.kwargs)
    assert sum(p.numel() for p in model.parameters()) == parameters

    attention = [m for n, m in model.named_modules() if n.endswith("self_attention")]
    assert len(attention) == depth
    assert all(isinstance(m, nn.MultiheadAttention) and m.batch_first for m in attention)
    width = attention[0].embed_dim
    mlp = [shape for n, shape in matrices(model).items() if re.search("mlp", n)]
    assert mlp == [(4 * width, width), (width, 4 * width)] * depth
    head = [(n, tuple(p.shape)) for n, p in model.named_parameters() if re.search("head", n)]
    assert [shape for _, shape in head] == [(10, width), (10,)]
    biases = {n: p for n, p in model.named_parameters() if re.search("bias$", n)}
    assert sum(p.numel() for p in biases.values()) == depth * (3 + 1 + 1 + 4 + 1 + 1) * width + 2 * width + 10


def test_every_model_config_has_the_same_keys():
    for path in CONF.glob("*.yaml"):
        config = OmegaConf.load(path)
        weights = {"weights": config.pop("weights")} if "weights" in config else {}
        assert list(config) == ["name", "target", "kwargs", "skip"], path
        if not OmegaConf.is_missing(config, "target"):
            resolve(config.target, {**config.kwargs, **weights})
