"""Transformers and CIFAR images for tests of the presets that fine-tune: nothing is fetched, and all is small."""

from typing import Any

import pytest
import torch
from torch import nn

from experiments import data, models
from experiments.data import Split, Splits
from experiments.models import vit_tiny


def transformer(classes: int, image_size: int, weights: str | None = None) -> nn.Module:
    """A ViT-B/16 or ViT-S/14, as narrow as can be with the start rank of the presets."""
    patch = next(size for size in (16, 14) if image_size % size == 0)
    return vit_tiny(classes, image_size, patch, depth=12, width=32)


def cifar(name: str, image_size: int | None = None, **options: Any) -> Splits:
    """As many random images as the limits say."""
    sizes = [options[f"{part}_limit"] for part in ("train", "val", "test")]
    classes = 10 if name == "cifar10" else 100
    parts = (Split(torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8), torch.arange(n) % classes) for n in sizes)
    return Splits(*parts, image_size=image_size, augment=True)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the configs' targets be these."""
    monkeypatch.setattr(models, "vit_b_16", transformer)
    monkeypatch.setattr(models, "vit_small", transformer)
    monkeypatch.setattr(data, "load_cifar", cifar)
