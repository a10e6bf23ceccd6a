"""The papers' networks and vision transformers as plain torch modules, and users' own by name."""

from experiments.models.by_name import build
from experiments.models.papers import ChannelsLast, lenet5, mlp
from experiments.models.vit_small import vit_small
from experiments.models.vits import vit_b_16, vit_tiny

__all__ = ["ChannelsLast", "build", "lenet5", "mlp", "vit_b_16", "vit_small", "vit_tiny"]
