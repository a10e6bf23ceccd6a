"""Training one network: the learning rate's schedule, epochs, evaluation, and the choice of the reported epoch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from dlrt import Divergence
from dlrt.adapters import trained_state
from experiments.build import Trainable
from experiments.data import Splits
from experiments.structure import spectrum_of, structure_of

Row = dict[str, Any]
SELECTED_BY = {
    "validation": "val_accuracy",
    "test": "test_accuracy_paper_protocol",
    "tuning": "val_accuracy",
}


class Collapse(Divergence):
    """The accuracy is still that of guessing: what the papers count as a failed run."""


class Seconds(NamedTuple):
    """Wall-clock seconds of an epoch: all of it, its training without the evaluation, the integrator's steps alone.

    What is in `train` but not in `step` goes to data, schedule, metrics and display.
    """

    epoch: float
    train: float
    step: float


class Watch(Protocol):
    """Told how a training goes on."""

    def begin(self, epoch: int) -> None: ...
    def batch(self) -> None: ...
    def end(self, row: Row, seconds: Seconds) -> None: ...


@dataclass
class Selection:
    """The reported epoch: its row of the history and its weights, without those that are frozen."""

    row: Row
    state: dict[str, Tensor]


def fit(net: nn.Module, integrator: Trainable, data: Splits, cfg: dict[str, Any], seed: int, watch: Watch) -> Selection:
    """Train for `cfg["epochs"]` epochs (keys of conf/trainer) and leave in `net` the weights of the reported epoch.

    That is the best one by validation accuracy among the last `select_last` of the epochs or, with select=test, by
    test accuracy among all; of equals, the earliest. In the last `fixed_rank_epochs` the ranks stay.

    Raises:
        Divergence: a loss, gradient or factor is not finite, or (Collapse) the papers' rule of a failed run holds.
    """
    order = torch.Generator().manual_seed(seed)
    steps = steps_per_epoch(len(data.train), cfg["batch_size"], integrator.cycle)
    scheduler = LambdaLR(integrator, schedule(cfg, steps))
    score = SELECTED_BY[cfg["select"]]
    best: Selection | None = None
    for epoch in range(1, cfg["epochs"] + 1):
        watch.begin(epoch)
        start = time.perf_counter()
        if epoch > cfg["epochs"] - cfg["fixed_rank_epochs"]:
            integrator.param_groups[0] |= {"tau": None, "rank_budget": None}
        trained, stepping = train_epoch(net, integrator, scheduler, data, cfg, steps, order, watch)
        training = time.perf_counter() - start
        row = {"epoch": epoch} | trained
        row |= evaluate(net, data, cfg) | structure_of(net) | {"singular_values": spectrum_of(net)}
        watch.end(row, Seconds(time.perf_counter() - start, training, stepping))
        check_collapse(row, cfg)
        if is_candidate(epoch, cfg) and (best is None or row[score] > best.row[score]):
            best = Selection(row, {name: x.detach().clone() for name, x in trained_state(net).items()})
    assert best is not None  # the last epoch is a candidate
    net.load_state_dict(best.state, strict=False)  # what is frozen is not in it
    return best


def steps_per_epoch(images: int, batch_size: int, cycle: int = 1) -> int:
    """Steps of an epoch over `images`: between two truncations a layer's rank is not its rank, so it ends with one."""
    steps = math.ceil(images / batch_size)
    return steps - steps % cycle


def train_epoch(
    net: nn.Module,
    integrator: Trainable,
    scheduler: LRScheduler,
    data: Splits,
    cfg: dict[str, Any],
    steps: int,
    order: torch.Generator,
    watch: Watch,
) -> tuple[Row, float]:
    """One epoch: its row, and the seconds within `integrator.step`.

    The mean loss and accuracy are those before each step, the rate that of the last step.
    """
    net.train()
    losses, guesses, labels = list[Tensor](), list[Tensor](), list[Tensor]()
    lr = seconds = 0.0
    for x, y in islice(data.batches(data.train, cfg["batch_size"], order), steps):
        outputs: list[Tensor] = []
        closures = closures_of(net, x, y, cfg, outputs)
        start = time.perf_counter()
        losses.append(integrator.step(closures))
        seconds += time.perf_counter() - start
        lr = integrator.param_groups[0]["lr"]
        scheduler.step()
        guesses += [logits.argmax(1) for logits in outputs[: len(closures)]]  # the first of the passes is the one at Y₀
        labels.append(y)
        watch.batch()
    mean = mean_loss(losses, [len(y) for y in labels])
    if not math.isfinite(mean):
        raise Divergence(f"the mean loss of the epoch is {mean}: lower the learning rate")
    hits = torch.cat(guesses) == torch.cat(labels)
    return {"lr": lr, "loss": mean, "train_accuracy": hits.sum().item() / len(hits)}, seconds


def mean_loss(losses: list[Tensor], sizes: list[int]) -> float:
    """Mean over all images of the batches' mean losses; the float32 sum goes from one batch to the next."""
    sums = torch.stack(losses).float().cpu() * torch.tensor(sizes)
    return float(sums.numpy().cumsum()[-1]) / sum(sizes)


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


def evaluate(net: nn.Module, data: Splits, cfg: dict[str, Any]) -> Row:
    """Validation accuracy (None without validation data) and, with select=test only, test accuracy."""
    row: Row = {"val_accuracy": None if data.val is None else accuracy(net, data, "val", cfg)}
    if cfg["select"] == "test":
        row["test_accuracy_paper_protocol"] = accuracy(net, data, "test", cfg)
    return row


@torch.no_grad()
def accuracy(net: nn.Module, data: Splits, part: str, cfg: dict[str, Any]) -> float:
    """Fraction of the images of `part` ("train", "val" or "test") that `net` classifies correctly."""
    net.eval()
    split = getattr(data, part)
    hits = torch.zeros((), device=split.labels.device, dtype=torch.long)
    for x, y in data.batches(split, cfg["eval_batch_size"]):
        hits += (logits_of(net, x, cfg["precision"]).argmax(1) == y).sum()
    return hits.item() / len(split)


def is_candidate(epoch: int, cfg: dict[str, Any]) -> bool:
    """Whether the epoch may be the reported one; early epochs of a rank-adaptive run have high ranks."""
    return cfg["select"] == "test" or epoch > cfg["epochs"] - math.ceil(cfg["epochs"] * cfg["select_last"])


def check_collapse(row: Row, cfg: dict[str, Any]) -> None:
    """Raise Collapse if the accuracy after epoch `collapse_epoch` is below `collapse_accuracy`."""
    reached = row[SELECTED_BY[cfg["select"]]]
    if row["epoch"] == cfg["collapse_epoch"] and reached < cfg["collapse_accuracy"]:
        raise Collapse(f"accuracy {reached:.4f} after epoch {row['epoch']} is below {cfg['collapse_accuracy']}")


def logits_of(net: nn.Module, x: Tensor, precision: str) -> Tensor:
    """The net's outputs; with "bf16", computed under autocast, in float32."""
    if precision == "fp32":
        return net(x)
    with torch.autocast(x.device.type, torch.bfloat16):
        return net(x).float()


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
