"""The steps of a training, and the learning rate at each."""

import math
from collections.abc import Callable
from typing import Any


def steps_per_epoch(images: int, batch_size: int, cycle: int = 1) -> int:
    """Steps of an epoch over `images`: between two truncations a layer's rank is not its rank, so it ends with one."""
    steps = math.ceil(images / batch_size)
    return steps - steps % cycle


def schedule(cfg: dict[str, Any], steps_per_epoch: int) -> Callable[[int], float]:
    """The factor of the learning rate at each step: linear warm-up, times constant, cosine to 0, or exponential."""
    warmup, total = cfg["warmup_steps"], cfg["epochs"] * steps_per_epoch

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
        if cfg["schedule"] == "exponential":
            return warm * float(cfg["gamma"] ** (step // steps_per_epoch))
        if cfg["schedule"] == "cosine" and step >= warmup:
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
        return warm

    return factor
