"""Data sets named by text: the built-in ones and users' own."""

from typing import Any

import torch
from torch import Tensor

from experiments.data.splits import Split, Splits
from experiments.importing import call

FORM = "a Splits or ((x_train, y_train), (x_val, y_val) or None, (x_test, y_test)) of tensors"


def load_target(target: str, /, *, device: torch.device | str = "cpu", **kwargs: Any) -> Splits:
    """Call "package.module:Name" with `kwargs` and move what it returns to `device`.

    The callable returns a Splits or a tuple ((x_train, y_train), (x_val, y_val) or None, (x_test, y_test))
    of tensors: x uint8 (taken as x/255) or float (taken as it is) of shape (N, …), y int64 (N,).
    Raises ValueError if it cannot be imported, does not take `kwargs`, or returns anything else.
    """
    data = call(target, kwargs)
    if isinstance(data, Splits):
        return data.to(device)
    if not isinstance(data, tuple) or len(data) != 3:
        got = f"a tuple of {len(data)}" if isinstance(data, tuple) else f"a {type(data).__name__}"
        raise ValueError(f"{target} returned {got}: it must return {FORM}")
    train, test = (_split(target, part, data[i]) for i, part in ((0, "train"), (2, "test")))
    val = None if data[1] is None else _split(target, "val", data[1])
    return Splits(train, val, test, source=target).to(device)


def _split(target: str, part: str, pair: object) -> Split:
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(t, Tensor) for t in pair)):
        raise ValueError(f"{target} returned no pair of tensors for {part}: it must return {FORM}")
    try:
        return Split(*pair)
    except ValueError as error:
        raise ValueError(f"{target} returned unusable data for {part}: {error}") from error
