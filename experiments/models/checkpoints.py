"""Pretrained weights: a file's tensors, read without executing anything and checked against the model."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.importing import did_you_mean

torch_load = partial(torch.load, map_location="cpu", weights_only=True)
READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": safetensors.torch.load_file,
    ".pth": torch_load,
    ".pt": torch_load,
}


def existing(weights: str | Path, name: str | None = None) -> Path:
    """The path of the file `weights`. Raises ValueError if there is none; `name` is what could be given instead."""
    path = Path(str(weights)).expanduser()
    if not path.is_file():
        hint = did_you_mean(weights, [name]) + f"give model.weights={name} or a path" if name else "correct the path"
        raise ValueError(f"there is no weights file {path}: {hint}")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """The state_dict in a .pth, .pt or .safetensors file, in float32 whatever its precision.

    Raises ValueError if the file has another ending, cannot be read or holds anything but tensors by name.
    """
    if path.suffix not in READERS:
        raise ValueError(f"weights file {path} ends in {path.suffix!r}: give a file in {', '.join(READERS)}")
    try:
        state = READERS[path.suffix](path)
    except Exception as error:  # what a damaged file raises is anyone's guess
        if "GLOBAL" in str(error):
            problem = "holds pickled objects, which are not loaded since they can run code: save model.state_dict()"
        else:
            problem = f"cannot be read as a {path.suffix} file: it is damaged or incomplete, fetch it again"
        raise ValueError(f"weights file {path} {problem}") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"weights file {path} holds a {type(state).__name__}: save model.state_dict()")
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            found = f"its {name!r} is a {type(value).__name__}"
            raise ValueError(f"weights file {path} is no state_dict ({found}): save model.state_dict()")
    return {name: tensor.float() for name, tensor in state.items()}


def load(model: nn.Module, state: Mapping[str, Tensor], source: str, expected: str, align_corners: bool) -> None:
    """Copy `state` into `model`, whose classifier is called "head" and whose position embedding "pos_embedding".

    A classifier for another number of classes is left out: the model's stays new. A position embedding for another
    image size is interpolated, with torch's `align_corners`. Raises ValueError, "`source` is not `expected`: …",
    for the first tensor that is missing, of another shape or unknown to the model.
    """
    wanted = model.state_dict()
    fitting = dict(state)
    for name in wanted:
        if name.endswith("pos_embedding") and name in state:
            fitting[name] = resized(state[name], wanted[name].shape[1], align_corners)
        if name.endswith("head.weight") and (name not in state or state[name].shape[:1] != wanted[name].shape[:1]):
            bias = name.replace("weight", "bias")
            fitting |= {name: wanted[name], bias: wanted[bias]}
    problem = _misfit(fitting, wanted)
    if problem:
        first = f"its first tensor is {next(iter(state))!r}" if state else "it holds none"
        raise ValueError(f"{source} is not {expected}: {problem} ({first})")
    model.load_state_dict(fitting)


def resized(positions: Tensor, tokens: int, align_corners: bool) -> Tensor:
    """Position embedding (1, 1 + n², width) of a class token and n × n patches as (1, tokens, width), bicubic.

    One that has the right length or is no embedding of a square is returned as it is.
    """
    length = positions.shape[1] if positions.dim() == 3 else 0
    side = math.isqrt(max(length - 1, 0))
    if length == tokens or length != 1 + side**2 or side == 0:
        return positions
    grid = positions[:, 1:].mT.unflatten(2, (side, side))
    size = (math.isqrt(tokens - 1),) * 2
    patches = F.interpolate(grid, size=size, mode="bicubic", align_corners=align_corners)
    return torch.cat([positions[:, :1], patches.flatten(2).mT], dim=1)


def _misfit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The first tensor of `state` that does not fit, in words, or an empty text."""
    for name, tensor in wanted.items():
        shape = tuple(tensor.shape)
        if name not in state:
            return f"it lacks {name!r} of shape {shape}"
        if tuple(state[name].shape) != shape:
            return f"its {name!r} has shape {tuple(state[name].shape)} and {shape} is expected"
    unknown = next((name for name in state if name not in wanted), None)
    return f"it has {unknown!r}, which this model has not" if unknown else ""
