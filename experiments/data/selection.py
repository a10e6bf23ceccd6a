"""Which images of a data set are trained on, validated and tested with."""

from typing import Protocol

import torch
from torch import Tensor

from experiments.data.splits import Split


class Part(Protocol):
    """Images that may not be in memory yet."""

    def __len__(self) -> int: ...

    def take(self, rows: Tensor) -> Split:
        """The given rows, in their order."""


def select(
    train: Part, val: Part | int, test: Part, seed: int, limits: dict[str, int | None]
) -> tuple[Split, Split | None, Split]:
    """The first limits["train"], ["val"], ["test"] images (None: all) of each part, shuffled by `seed`.

    A number as `val` is held out of the training images: the last of the shuffled ones; 0: no validation.
    Raises ValueError if a part has fewer images than its limit.
    """
    rows = _shuffled(len(train), seed)
    held_out = val if isinstance(val, int) else 0
    kept = len(train) - held_out
    training = train.take(_first(rows[:kept], "train", limits))
    if isinstance(val, int):
        validation = train.take(_first(rows[kept:], "val", limits)) if val else None
    else:
        validation = val.take(_first(_shuffled(len(val), seed), "val", limits))
    return training, validation, test.take(_first(_shuffled(len(test), seed), "test", limits))


def _shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _first(rows: Tensor, part: str, limits: dict[str, int | None]) -> Tensor:
    limit = limits[part]
    if limit is not None and limit > len(rows):
        raise ValueError(f"{part}_limit is {limit}: give at most {len(rows)}, the images of {part}")
    return rows[:limit]
