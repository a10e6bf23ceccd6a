"""Whether what is timed trains as the plain path does: the losses of both over the same steps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import cycle, islice
from typing import Any

import torch

from dlrt import linalg
from experiments.benchmark import contenders
from experiments.benchmark.cases import Case
from experiments.timing_tasks import Batches


def deviation(case: Case, inputs: Sequence[Batches], steps: int, seed: int, device: torch.device) -> dict[str, Any]:
    """The first and last loss of `steps` steps, and the largest |ℓ − ℓ_plain| / ℓ_plain, ℓ_plain by Householder QR
    and SVD throughout (`dlrt.linalg.plain`)."""
    fast, plain = (losses(case, inputs, steps, seed, device, plain) for plain in (False, True))
    return {
        "steps": steps,
        "first_loss": fast[0].item(),
        "last_loss": fast[-1].item(),
        "deviation": ((fast - plain).abs() / plain).max().item(),
    }


def losses(
    case: Case, inputs: Sequence[Batches], steps: int, seed: int, device: torch.device, plain: bool
) -> torch.Tensor:
    """The losses (steps,) of a training of the case's net from its start."""
    with linalg.plain() if plain else nullcontext():
        contender = contenders.own(case, seed, device)
        return torch.stack([contender.train(batches) for batches in islice(cycle(inputs), steps)]).double().cpu()
