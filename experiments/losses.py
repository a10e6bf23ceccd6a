"""The loss of a batch as the closures that an integrator calls, and the mean loss of an epoch."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.evaluation import logits_of


def closures_of(
    net: nn.Module, x: Tensor, y: Tensor, cfg: dict[str, Any], outputs: list[Tensor]
) -> list[Callable[[], Tensor]]:
    """A closure for each of the batch's `accumulate` parts: its share of the batch's mean loss; keeps the outputs."""
    parts = zip(x.chunk(cfg["accumulate"]), y.chunk(cfg["accumulate"]), strict=True)
    return [_closure(net, part, labels, len(labels) / len(y), cfg, outputs) for part, labels in parts]


def _closure(
    net: nn.Module, x: Tensor, y: Tensor, share: float, cfg: dict[str, Any], outputs: list[Tensor]
) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        logits = logits_of(net, x, cfg["precision"])
        outputs.append(logits.detach())
        loss = F.cross_entropy(logits, y, label_smoothing=cfg["label_smoothing"])
        return loss if share == 1 else share * loss

    return closure


def mean_loss(losses: list[Tensor], sizes: list[int]) -> float:
    """Mean over all images of the batches' mean losses; the float32 sum goes from one batch to the next."""
    sums = torch.stack(losses).float().cpu() * torch.tensor(sizes)
    return float(sums.numpy().cumsum()[-1]) / sum(sizes)
