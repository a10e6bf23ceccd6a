"""What a timing cell times, and on which data: a training step on a batch, or the prediction of all images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlrt import predictor
from experiments import build
from experiments.data import Split, Splits
from experiments.losses import closures_of

Batches = list[tuple[Tensor, Tensor]]
Work = Callable[[Batches], Tensor]  # returns the loss, the last batch's or the mean


def _training(net: nn.Module, config: dict[str, Any], sample: Batches) -> Work:
    """Whole steps, with the loss and the hits: forward, backward, all flows, truncation, updates."""
    integrator = build.integrator(config, net.train())

    def work(batches: Batches) -> Tensor:
        for x, y in batches:
            outputs: list[Tensor] = []
            closures = closures_of(net, x, y, config["trainer"], outputs)
            loss = integrator.step(closures)
            _ = (torch.cat(outputs[: len(closures)]).argmax(1) == y).sum()
        return loss

    return work


def _prediction(net: nn.Module, config: dict[str, Any], sample: Batches) -> Work:
    """The forward pass alone, with the mean loss and the hits, by `dlrt.predictor` of the net, made for the sample."""
    plain = predictor(net, sample[0][0])
    net.cpu()  # a GPU's peak of memory is that of the plain net

    @torch.no_grad()
    def work(batches: Batches) -> Tensor:
        losses, hits = [], []
        for x, y in batches:
            logits = plain(x)
            losses.append(F.cross_entropy(logits, y, reduction="sum"))
            hits.append((logits.argmax(1) == y).sum())
        _ = torch.stack(hits).sum()
        return torch.stack(losses).sum() / sum(len(y) for _, y in batches)

    return work


# of a net, its config and the batches of one work: what is made here of the net is not timed
TASKS: dict[str, Callable[[nn.Module, dict[str, Any], Batches], Work]] = {
    "time_training": _training,
    "time_prediction": _prediction,
}


def inputs_of(config: dict[str, Any], data: Splits) -> Iterator[Batches]:
    """What each work is done on, from the first `images` of the training data (null: all): one batch or all of it."""
    count, trainer = config["timing"]["images"], config["trainer"]
    part = Split(data.train.images[:count], data.train.labels[:count])
    if config["task"] == "time_prediction":
        return repeat(list(data.batches(part, trainer["eval_batch_size"])))
    return _shuffled(data, part, min(trainer["batch_size"], len(part)), config["seed"])


def _shuffled(data: Splits, part: Split, batch_size: int, seed: int) -> Iterator[Batches]:
    order = torch.Generator().manual_seed(seed)
    while True:
        for batch in data.batches(part, batch_size, order, drop_last=True):
            yield [batch]
