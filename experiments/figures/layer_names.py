"""Short names of layers, for axes with room for little: "3 q", "3 mlp 1"."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"(?:^|_)(\d+)$")
# The two linear layers of an MLP have places in torchvision's nn.Sequential, names elsewhere.
_SHORT = {"mlp 0": "mlp 1", "mlp 3": "mlp 2", "mlp fc1": "mlp 1", "mlp fc2": "mlp 2", "out_proj": "out"}


def short_names(layers: Sequence[str]) -> list[str]:
    """Returns for each layer the number of its block and its place in it; the qualified names where two would agree."""
    names = [_short(layer) for layer in layers]
    return names if len(set(names)) == len(names) else list(layers)


def _short(layer: str) -> str:
    parts = layer.split(".")
    for place, part in enumerate(parts):
        if number := _NUMBER.search(part):
            rest = " ".join(word for word in parts[place + 1 :] if word != "self_attention")
            return " ".join(filter(None, [number[1], _SHORT.get(rest, rest)]))
    return parts[-1]
