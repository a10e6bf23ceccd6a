"""What a run does on its device: train, from where a checkpoint left it, or measure time; what it finds is recorded."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig
from torch import nn

from experiments import build
from experiments.checkpoints import Snapshot
from experiments.data import Splits
from experiments.devices import claimed, threads
from experiments.evaluation import SELECTED_BY, Row, accuracy
from experiments.ongoing import Run
from experiments.place import Place
from experiments.progress import progress
from experiments.provenance import provenance
from experiments.records import Store, settled
from experiments.schedule import steps_per_epoch
from experiments.structure import final_structure, structure_of
from experiments.summary import label, resumed
from experiments.timing import measure
from experiments.trainer import Training

log = logging.getLogger(__name__)
Record = dict[str, Any]


def execute(cfg: DictConfig, this: Run, store: Store, place: Place, snapshots: Iterator[Snapshot]) -> None:
    """Do what the run's task says on its device."""
    config = settled(cfg)
    with claimed(cfg.device) as device, threads(cfg.threads):
        this.record["provenance"] = provenance(device, place.overrides, place.sweep)
        data = build.data(config, device)
        this.record["provenance"]["data_source"] = data.source
        if config["task"] == "train":
            name = label(this.record) if place.sweep else ""
            trained(this, config, store, data, name, place.parallel, snapshots)
        else:
            checks = this.stop.check
            this.record["final"], this.record["timing"]["measured"] = measure(config, data, device, checks)


def trained(
    this: Run, config: Record, store: Store, data: Splits, name: str, parallel: bool, snapshots: Iterator[Snapshot]
) -> None:
    """Train what `settled` gave, evaluate the reported epoch and save what was trained."""
    trainer = config["trainer"]
    training = taken_up(this, snapshots, lambda: begun(this, config, store, data))
    this.total_steps = trainer["epochs"] * training.steps
    with progress(name, trainer["epochs"], training.steps, this.steps, parallel) as this.display:
        best = training.run(this)
    found = final(training.net, data, trainer, best.row)
    store.save_trained(this.record["key"], training.net, best.row["ranks"])
    this.record["final"] = found


def begun(this: Run, config: Record, store: Store, data: Splits) -> Training:
    """The training before its first step."""
    trainer, device = config["trainer"], data.train.labels.device
    weights = store.load_weights(config["weights"]) if config["weights"] else None
    net = build.model(config, weights).to(device)
    if weights is not None:
        this.record["start"] = start(net, data, trainer)
    steps = trainer["epochs"] * steps_per_epoch(len(data.train), trainer["batch_size"])
    return Training(net, build.integrator(config, net, steps), data, trainer, config["seed"])


def taken_up(this: Run, snapshots: Iterator[Snapshot], begin: Callable[[], Training]) -> Training:
    """The training at the first of the snapshots that fits it, else at its start."""
    for snapshot in snapshots:
        training = begin()
        try:
            training.restore(snapshot)
        except Exception as error:  # the user's own model has changed, say
            log.warning("the checkpoint of step %d does not fit and is left out (%s)", snapshot.step, error)
            continue
        this.resume(snapshot.state["run"])
        print(resumed(this.record, snapshot.step), flush=True)
        return training
    return begin()


def final(net: nn.Module, data: Splits, trainer: dict[str, Any], row: Row) -> dict[str, Any]:
    """The record's "final": the reported epoch is `row`, its weights are in `net`; tuning uses no test data."""
    test = row.get("test_accuracy_paper_protocol")
    if trainer["select"] == "validation":
        test = accuracy(net, data, "test", trainer)
    return {
        "epoch": row["epoch"],
        "selected_by": SELECTED_BY[trainer["select"]],
        "val_accuracy": row["val_accuracy"],
        "test_accuracy": test,
    } | final_structure(net)


def start(net: nn.Module, data: Splits, trainer: dict[str, Any]) -> Record:
    """The record's "start": what the given weights are worth, truncated, before any training (Table 8's column SVD)."""
    parts = {"val": data.val is not None, "test": trainer["select"] != "tuning"}
    scores = {
        f"{part}_accuracy": accuracy(net, data, part, trainer) if wanted else None for part, wanted in parts.items()
    }
    return scores | structure_of(net)
