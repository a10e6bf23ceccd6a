"""One run: skipped if it is recorded, else trained or taken up again and recorded, however it ends."""

import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dlrt import Divergence
from experiments import build, presets, running, signals
from experiments.checkpoints import Checkpoints, Snapshot
from experiments.command import in_one_sentence
from experiments.config import ConfigError
from experiments.data import Splits
from experiments.devices import claimed
from experiments.evaluation import SELECTED_BY, Row, accuracy
from experiments.joblog import logging_to, news
from experiments.loggers import make_logger
from experiments.ongoing import Run
from experiments.progress import progress
from experiments.provenance import provenance
from experiments.records import Store, identity, key_of, name_of, needs_training, settled
from experiments.schedule import steps_per_epoch
from experiments.signals import Preempted, stoppable
from experiments.structure import final_structure, structure_of
from experiments.summary import already, label, outcome, resumed, unused
from experiments.timing import measure
from experiments.trainer import Training
from experiments.validate import validate

log = logging.getLogger(__name__)
Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a run stands: its own command line, whether it is part of a sweep, and whether others print beside it.

    `stop_file` is that of its sweep (see `signals`).
    """

    overrides: Sequence[str]
    sweep: bool
    parallel: bool
    stop_file: Path | None = None

    @classmethod
    def of_hydra(cls, stop_file: Path | None) -> "Place":
        """The place that Hydra has put this process's run in."""
        hydra: Any = HydraConfig.get()
        sweep = hydra.mode == RunMode.MULTIRUN
        alone = "BasicLauncher" in hydra.launcher._target_ or hydra.launcher.get("n_jobs") == 1
        return cls(hydra.overrides.task, sweep, sweep and not alone, stop_file)


def run(cfg: DictConfig, stop_file: Path | None = None) -> None:
    """Hydra's task: one run, alone or as a cell of a sweep, which `stop_file` stops.

    Raises:
        SystemExit: alone, the config is no possible run, or the run was preempted or failed.
        ConfigError: in a sweep, the config is no possible run.
    """
    place = Place.of_hydra(stop_file)
    if place.sweep:
        recorded(cfg, checked(cfg), place)
        return
    with in_one_sentence():
        record = recorded(cfg, checked_alone(cfg), place)
    if record["status"] == "failed":
        raise SystemExit(1)


def recorded(cfg: DictConfig, config: dict[str, Any], place: Place) -> Record:
    """The record of the run `config`, which is trained first if `cfg.rerun` wants it.

    Raises:
        ConfigError: a record cannot be read, or not written.
        SystemExit: the run is no part of a sweep and was preempted.
    """
    store, key = Store(cfg.results_dir), key_of(config)
    with store.lock(key):
        record = store.get(key)
        if record is not None and not needs_training(record, cfg.rerun):
            print(already(record), flush=True)
            return record
        checkpoints = Checkpoints(store.folder / "checkpoints" / key)
        return train(cfg, config, store, place, checkpoints, unfinished(checkpoints, record))


def unfinished(checkpoints: Checkpoints, record: Record | None) -> Iterator[Snapshot]:
    """The snapshots of a training that has not ended: a killed one may leave them behind after its record."""
    ended = record is not None and record["status"] in ("done", "diverged")
    for snapshot in checkpoints.readable():
        if record is None or not ended or snapshot.state["run"]["timing"]["started"] > record["timing"]["started"]:
            yield snapshot


def checked(cfg: DictConfig) -> dict[str, Any]:
    """The identity of the run `cfg`. Raises ConfigError if that is no possible run."""
    validate(cfg)
    config = identity(cfg)
    Store(cfg.results_dir).get(key_of(config))  # a file that is no record is a mistake, too
    return config


def checked_alone(cfg: DictConfig) -> dict[str, Any]:
    """As `checked`, for a command line that describes one run; says which of its keys have no meaning."""
    hydra: Any = HydraConfig.get()
    if cfg.blocks:
        raise ConfigError(f"experiment={hydra.runtime.choices.experiment} is a sweep of several runs: add -m")
    config = checked(cfg)
    for note in unused(config, presets.axes(hydra.overrides.task)):
        print(note)
    return config


def train(
    cfg: DictConfig,
    config: dict[str, Any],
    store: Store,
    place: Place,
    checkpoints: Checkpoints,
    snapshots: Iterator[Snapshot],
) -> Record:
    """Train the run `config` as `cfg` says, from a snapshot if there is one, write its record and return it."""
    options: dict[str, Any] = OmegaConf.to_container(cfg.logger)  # type: ignore[assignment]
    names = {"group": options["group"] or name_of(config), "name": name_of(config)}
    first = next(snapshots, None)
    id = first.state["run"]["id"] if first else f"{key_of(config)}-{uuid.uuid4().hex[:8]}"
    snapshots = snapshots if first is None else chain([first], snapshots)
    with (
        logging_to(store.log_path(config)),
        make_logger(options, **names, config=config, id=id, results_dir=cfg.results_dir) as logger,
        stoppable(place.stop_file) as stop,
    ):
        this = Run(config, id, store.folder, logger, checkpoints, cfg.checkpoint_seconds, stop)
        this.note()
        try:
            execute(cfg, this, store, place, snapshots)
            this.close("done")
        except Divergence as error:
            this.close("diverged", error)
        except Preempted as error:
            this.close("preempted", error)
        except Exception as error:
            this.close("failed", error)
            news.info(this.record["error"]["traceback"])
        store.write(this.record)
        news.info(outcome(this.record))
        logger.finish(this.record)
    end(this, cfg, place)
    return this.record


def end(this: Run, cfg: DictConfig, place: Place) -> None:
    """Say how a recorded run ended, and leave behind what the next call needs and no more."""
    record, signum = this.record, this.stop.signum
    running.clear(this.folder, record["key"])
    if record["status"] in ("done", "diverged"):
        this.checkpoints.clear()
    print(outcome(record), flush=True)
    if record["status"] == "failed" and not place.sweep:
        print(record["error"]["traceback"], file=sys.stderr, flush=True)
    if record["status"] == "failed" and cfg.on_error == "raise" and place.stop_file is not None:
        place.stop_file.write_text(f"on_error=raise, as {label(record)} failed")
    if record["status"] == "preempted" and signum is not None:
        signals.pass_on(signum)
        if not place.sweep:
            sys.exit(128 + signum)


def execute(cfg: DictConfig, this: Run, store: Store, place: Place, snapshots: Iterator[Snapshot]) -> None:
    """Do what the run's task says on its device."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    config = settled(cfg)
    with claimed(cfg.device) as device:
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
    this.record["final"] = final(training.net, data, trainer, best.row)
    store.save_trained(this.record["key"], training.net, best.row["ranks"])


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
