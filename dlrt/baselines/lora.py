from __future__ import annotations

from typing import Any

from torch import nn

from dlrt.adapters import LoRALayer, adapters_of
from dlrt.baselines.dense import Dense


class LoRA(Dense):
    """LoRA (Hu et al., 2021): simultaneous descent on A and B of every adapter and on the trainable dense parts.

    Args:
        model: has adapters of `dlrt.add_adapters(model, ..., method="lora")`.
        options: as `Dense`.

    Raises:
        ValueError: the model has none, or others.
    """

    def __init__(self, model: nn.Module, lr: float, **options: Any) -> None:
        check_adapters(model, LoRALayer, "lora")
        super().__init__(model, lr, **options)


def check_adapters(model: nn.Module, kind: type[nn.Module], method: str) -> None:
    """Raise ValueError unless the model has adapters, all of this kind."""
    adapters = adapters_of(model).values()
    if not adapters or not all(isinstance(adapter, kind) for adapter in adapters):
        found = f"has adapters of {type(next(iter(adapters))).__name__}" if adapters else "has no adapters"
        raise ValueError(f"the model {found}: call dlrt.add_adapters(model, ..., method={method!r}) first")
