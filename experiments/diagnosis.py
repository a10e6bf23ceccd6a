"""Where a network's numbers stop being finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def first_not_finite(net: nn.Module, x: Tensor) -> str | None:
    """The name of the first layer whose output for the batch x is not finite; None if all are."""
    found: list[str] = []

    def looking(name: str) -> Callable[..., None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(name)

        return look

    leaves = [(name, module) for name, module in net.named_modules() if name and next(module.children(), None) is None]
    hooks = [module.register_forward_hook(looking(name)) for name, module in leaves]
    try:
        net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
