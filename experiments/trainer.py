"""Training one network: epochs of steps, the choice of the reported epoch, and how it is left and taken up again."""

import math
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from dlrt import Divergence
from dlrt.adapters import trained_state
from experiments import randomness
from experiments.build import Trainable
from experiments.checkpoints import Snapshot
from experiments.data import Splits
from experiments.diagnosis import first_not_finite
from experiments.evaluation import SELECTED_BY, Row, check_collapse, evaluate, is_candidate
from experiments.losses import closures_of, mean_loss
from experiments.schedule import schedule, steps_per_epoch
from experiments.structure import spectrum_of, structure_of


class Seconds(NamedTuple):
    """Wall-clock seconds of an epoch: all of it, its training without the evaluation, the integrator's steps alone.

    What is in `train` but not in `step` goes to data, schedule, metrics and display.
    """

    epoch: float
    train: float
    step: float


class Watch(Protocol):
    """Told how a training goes on; `step` may look at it between two steps."""

    def begin(self, epoch: int) -> None: ...
    def step(self, training: "Training") -> None: ...
    def end(self, row: Row, seconds: Seconds) -> None: ...


@dataclass
class Selection:
    """The reported epoch: its row of the history and its weights, without those that are frozen."""

    row: Row
    state: dict[str, Tensor]


@dataclass
class Tally:
    """An epoch so far: the losses, guesses and labels of its batches, its last rate and its seconds."""

    losses: list[Tensor] = field(default_factory=list)
    guesses: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    lr: float = 0.0
    training: float = 0.0
    stepping: float = 0.0

    def row(self) -> Row:
        """The means, which are those before each step. Raises Divergence if the loss is not finite."""
        mean = mean_loss(self.losses, self.sizes)
        if not math.isfinite(mean):
            raise Divergence(f"the mean loss of the epoch is {mean}: lower the learning rate")
        hits = torch.cat(self.guesses) == torch.cat(self.labels)
        return {"lr": self.lr, "loss": mean, "train_accuracy": hits.sum().item() / len(hits)}


class Training:
    """A training of `cfg["epochs"]` epochs (keys of conf/trainer), which can be left between any two steps.

    `snapshot` has all that the rest of it depends on: on the same device, with as many threads, a training that goes on
    from there ends with the same bits.
    """

    def __init__(self, net: nn.Module, integrator: Trainable, data: Splits, cfg: dict[str, Any], seed: int) -> None:
        self.net, self.integrator, self.data, self.cfg = net, integrator, data, cfg
        self.order = torch.Generator().manual_seed(seed)
        self.steps = steps_per_epoch(len(data.train), cfg["batch_size"], integrator.cycle)
        self.scheduler = LambdaLR(integrator, schedule(cfg, self.steps))
        self.epoch = 1
        self.best: Selection | None = None
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.tally, self._order_before = Tally(), self.order.get_state()

    def run(self, watch: Watch) -> Selection:
        """Train to the end and leave in the net the weights of the reported epoch.

        That is the best one by validation accuracy among the last `select_last` of the epochs or, with select=test, by
        test accuracy among all; of equals, the earliest. In the last `fixed_rank_epochs` the ranks stay.

        Raises:
            Divergence: a loss, gradient or factor is not finite, or (Collapse) the papers' rule of a failed run holds.
        """
        while self.epoch <= self.cfg["epochs"]:
            watch.begin(self.epoch)
            row = self._run_epoch(watch)
            check_collapse(row, self.cfg)
            if self._is_best(row):
                self.best = Selection(row, {k: x.detach().clone() for k, x in trained_state(self.net).items()})
            self.epoch += 1
            self._start_epoch()
        assert self.best is not None  # the last epoch is a candidate
        self.net.load_state_dict(self.best.state, strict=False)  # what is frozen is not in it
        return self.best

    def _is_best(self, row: Row) -> bool:
        score = SELECTED_BY[self.cfg["select"]]
        return is_candidate(row["epoch"], self.cfg) and (self.best is None or row[score] > self.best.row[score])

    def _run_epoch(self, watch: Watch) -> Row:
        start = time.perf_counter() - self.tally.training
        if self.epoch > self.cfg["epochs"] - self.cfg["fixed_rank_epochs"]:
            self.integrator.param_groups[0] |= {"tau": None, "rank_budget": None}
        self.net.train()
        done, size = len(self.tally.sizes), self.cfg["batch_size"]
        for x, y in islice(self.data.batches(self.data.train, size, self.order, skip=done), self.steps - done):
            self._step(x, y)
            self.tally.training = time.perf_counter() - start
            watch.step(self)
        trained = self.tally.row()
        training = time.perf_counter() - start
        row = {"epoch": self.epoch} | trained | evaluate(self.net, self.data, self.cfg)
        row |= structure_of(self.net) | {"singular_values": spectrum_of(self.net)}
        watch.end(row, Seconds(time.perf_counter() - start, training, self.tally.stepping))
        return row

    def _step(self, x: Tensor, y: Tensor) -> None:
        tally, outputs = self.tally, list[Tensor]()
        closures = closures_of(self.net, x, y, self.cfg, outputs)
        start = time.perf_counter()
        try:
            tally.losses.append(self.integrator.step(closures))
        except Divergence as error:
            error.layer = error.layer or first_not_finite(self.net, x)
            raise
        tally.stepping += time.perf_counter() - start
        tally.lr = self.integrator.param_groups[0]["lr"]
        self.scheduler.step()
        tally.guesses += [logits.argmax(1) for logits in outputs[: len(closures)]]  # the first passes are those at Y₀
        tally.labels.append(y)
        tally.sizes.append(len(y))

    def snapshot(self) -> Snapshot:
        """All of it, now; the tensors are not copied."""
        best, tally = self.best, self.tally
        state = {
            "epoch": self.epoch,
            "order": self._order_before,
            "integrator": self.integrator.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": randomness.state(self.device),
            "best": None if best is None else best.row,
            "tally": vars(tally)
            | {
                "losses": torch.stack(tally.losses),
                "guesses": torch.cat(tally.guesses),
                "labels": torch.cat(tally.labels),
            },
        }
        step = (self.epoch - 1) * self.steps + len(tally.sizes)
        weights = trained_state(self.net)
        return Snapshot(step, weights, None if best is None else best.state, structure_of(self.net)["ranks"], state)

    def restore(self, snapshot: Snapshot) -> None:
        """Go to where `snapshot` was taken, of a training with the same arguments.

        Raises:
            ValueError, RuntimeError: it is of another net or integrator.
        """
        state, tally, device = snapshot.state, snapshot.state["tally"], self.device
        if snapshot.weights.keys() != trained_state(self.net).keys():
            raise ValueError("its tensors have other names than the net's")
        self.net.load_state_dict(snapshot.weights, strict=False)
        self.integrator.load_state_dict(state["integrator"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self._order_before = state["epoch"], state["order"]
        self.order.set_state(state["order"])
        if snapshot.best is not None:
            self.best = Selection(state["best"], {name: x.to(device) for name, x in snapshot.best.items()})
        lists = {key: [tally[key].to(device)] for key in ("guesses", "labels")}
        self.tally = Tally(**tally | lists | {"losses": list(tally["losses"].to(device))})
        randomness.restore(state["random"], device)

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.data.train.labels.device
