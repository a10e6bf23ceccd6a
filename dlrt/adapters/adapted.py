from __future__ import annotations

from torch import Tensor, nn

from dlrt.adapters.adalora import AdaLoRALayer
from dlrt.adapters.lora import LoRALayer
from dlrt.layers import LowRankLayer

Adapter = LowRankLayer | LoRALayer | AdaLoRALayer


class Adapted(nn.Module):
    """A layer with a low-rank correction of its weight: z = W x + Y x + b (abc-PSI, 2025, section 6.2).

    Args:
        base: the plain linear layer or convolution W, b.
        adapter: computes Y x, of the same shape.
    """

    def __init__(self, base: nn.Linear | nn.Conv2d, adapter: Adapter) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.base, nn.Conv2d) and x.ndim == 3:
            return self(x[None])[0]
        return self.base(x) + self.adapter(x)

    @property
    def weight(self) -> Tensor:
        """W + Y, in the shape of W; computed at each call."""
        return self.base.weight + self.adapter.weight

    @property
    def bias(self) -> Tensor | None:
        """b."""
        return self.base.bias


def adapters_of(model: nn.Module) -> dict[str, Adapter]:
    """The adapters of a model by the qualified name of the layer they adapt.

    Each has `rank`, `matrix_shape` (m, n), `weight` (Y in the layer's shape) and `factors` with Y = U S Vᵀ.
    """
    return {name: m.adapter for name, m in model.named_modules() if isinstance(m, Adapted)}
