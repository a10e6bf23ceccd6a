"""Modules within modules."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def replace(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put new modules in the place of old ones, wherever the old ones are registered."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is not None and child in new:
                setattr(module, name, new[child])
    return new.get(model, model)
