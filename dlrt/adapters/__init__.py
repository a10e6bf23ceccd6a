"""Low-rank corrections of a pretrained model's layers, W + Y with Y = U S Vᵀ: what fine-tuning trains."""

from dlrt.adapters.adalora import AdaLoRALayer
from dlrt.adapters.adapted import Adapted, adapters_of
from dlrt.adapters.files import load_adapters, save_adapters, trained_state
from dlrt.adapters.lora import LoRALayer
from dlrt.adapters.surgery import add_adapters, merge_adapters

__all__ = [
    "AdaLoRALayer",
    "Adapted",
    "LoRALayer",
    "adapters_of",
    "add_adapters",
    "load_adapters",
    "merge_adapters",
    "save_adapters",
    "trained_state",
]
