"""One run: skipped if it is recorded, else trained and recorded, however it ends."""

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from torch import nn

from dlrt import Divergence
from experiments import build, presets
from experiments.command import in_one_sentence
from experiments.config import ConfigError
from experiments.data import Splits
from experiments.loggers import Logger, make_logger
from experiments.progress import Display, progress
from experiments.provenance import provenance
from experiments.records import SCHEMA, Store, identity, key_of, name_of, needs_training, settled
from experiments.signals import Preempted, leave, preemption
from experiments.structure import final_structure, structure_of
from experiments.summary import already, label, outcome, unused
from experiments.timing import measure
from experiments.trainer import SELECTED_BY, Row, Seconds, accuracy, fit, steps_per_epoch
from experiments.validate import validate

Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a run stands: its own command line, whether it is part of a sweep, and whether others print beside it."""

    overrides: Sequence[str]
    sweep: bool
    parallel: bool

    @classmethod
    def of_hydra(cls) -> "Place":
        """The place that Hydra has put this process's run in."""
        hydra: Any = HydraConfig.get()
        sweep = hydra.mode == RunMode.MULTIRUN
        return cls(hydra.overrides.task, sweep, sweep and "BasicLauncher" not in hydra.launcher._target_)


class Run:
    """A run's record while it is being trained; the trainer's `Watch`."""

    def __init__(self, config: dict[str, Any], logger: Logger) -> None:
        self.config, self.logger = config, logger
        self.display: Display | None = None
        self.epoch: int | None = None
        self.steps = 0
        self.start = time.perf_counter()
        self.record: Record = {
            "schema": SCHEMA,
            "key": key_of(config),
            "name": name_of(config),
            "status": "failed",
            "config": config,
            "start": None,
            "history": [],
            "final": None,
            "error": None,
            "timing": {"started": datetime.now(UTC).isoformat(timespec="seconds"), "epoch_seconds": []},
            "provenance": {},
        }

    def begin(self, epoch: int) -> None:
        """An epoch starts."""
        self.epoch = epoch

    def batch(self) -> None:
        """A step is done."""
        assert self.display is not None
        self.steps += 1
        self.display.batch()

    def end(self, row: Row, seconds: Seconds) -> None:
        """An epoch is done."""
        assert self.display is not None
        self.record["history"].append(row)
        timing = self.record["timing"]
        timing["epoch_seconds"].append(round(seconds.epoch, 3))
        for key, value in {"train_seconds": seconds.train, "step_seconds": seconds.step}.items():
            timing[key] = round(timing.get(key, 0.0) + value, 6)  # of all epochs, so that committed records keep them
        timing["steps"] = self.steps
        self.logger.log_epoch(row)
        self.display.end(row)

    def close(self, status: str, error: BaseException | None = None) -> None:
        """Note how the run ended."""
        self.record["status"] = status
        self.record["timing"]["seconds"] = round(time.perf_counter() - self.start, 3)
        if error is not None:
            self.record["error"] = {
                "kind": type(error).__name__,
                "message": str(error),
                "epoch": self.epoch,
                "layer": getattr(error, "layer", None),
                "traceback": "".join(traceback.format_exception(error)),
            }


def run(cfg: DictConfig) -> None:
    """Hydra's task: one run, alone or as a cell of a sweep.

    Raises:
        SystemExit: the config is no possible run, the run was preempted, or it failed and is not part of a sweep.
    """
    place = Place.of_hydra()
    config = checked(cfg, alone=not place.sweep)
    record = recorded(cfg, config, place)
    if not place.sweep and record["status"] == "failed":
        raise SystemExit(1)


def recorded(cfg: DictConfig, config: dict[str, Any], place: Place) -> Record:
    """The record of the run `config`, which is trained first if `cfg.rerun` wants it. Raises SystemExit as `train`."""
    store = Store(cfg.results_dir)
    with store.lock(key_of(config)):
        record = store.get(key_of(config))
        if record is not None and not needs_training(record, cfg.rerun):
            print(already(record), flush=True)
        else:
            record = train(cfg, config, store, place)
    return record


def checked(cfg: DictConfig, alone: bool) -> dict[str, Any]:
    """The identity of the run `cfg`. Raises SystemExit with one sentence if that is no possible run."""
    hydra: Any = HydraConfig.get()
    with in_one_sentence():
        if alone and cfg.blocks:
            raise ConfigError(f"experiment={hydra.runtime.choices.experiment} is a sweep of several runs: add -m")
        validate(cfg)
        config = identity(cfg)
        Store(cfg.results_dir).get(key_of(config))  # a file that is no record is a mistake, too
    for note in unused(config, presets.axes(hydra.overrides.task)) if alone else ():
        print(note)
    return config


def train(cfg: DictConfig, config: dict[str, Any], store: Store, place: Place) -> Record:
    """Train the run `config` as `cfg` says, write its record and return it. Raises SystemExit if it was preempted."""
    options: dict[str, Any] = OmegaConf.to_container(cfg.logger)  # type: ignore[assignment]
    group, name = options["group"] or name_of(config), name_of(config)
    with make_logger(options, group=group, name=name, config=config, results_dir=cfg.results_dir) as logger:
        this = Run(config, logger)
        stop: Preempted | None = None
        try:
            with preemption():
                execute(cfg, this, store, place)
            this.close("done")
        except Divergence as error:
            this.close("diverged", error)
        except Preempted as error:
            this.close("preempted", error)
            stop = error
        except Exception as error:
            this.close("failed", error)
            print(this.record["error"]["traceback"], file=sys.stderr, flush=True)
        store.write(this.record)
        logger.finish(this.record)
    print(outcome(this.record), flush=True)
    if stop is not None:
        leave(stop.signum)
    return this.record


def execute(cfg: DictConfig, this: Run, store: Store, place: Place) -> None:
    """Do what the run's task says on its device."""
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    config, device = settled(cfg), build.device_of(cfg.device)
    this.record["provenance"] = provenance(device, place.overrides, place.sweep)
    data = build.data(config, device)
    this.record["provenance"]["data_source"] = data.source
    if config["task"] == "train":
        trained(this, config, store, data, device, label(this.record) if place.sweep else "", place.parallel)
    else:
        this.record["final"], this.record["timing"]["measured"] = measure(config, data, device)


def trained(
    this: Run, config: Record, store: Store, data: Splits, device: torch.device, name: str, parallel: bool
) -> None:
    """Train what `settled` gave, evaluate the reported epoch and save what was trained."""
    trainer = config["trainer"]
    weights = store.load_weights(config["weights"]) if config["weights"] else None
    net = build.model(config, weights).to(device)
    if weights is not None:
        this.record["start"] = start(net, data, trainer)
    steps = trainer["epochs"] * steps_per_epoch(len(data.train), trainer["batch_size"])
    integrator = build.integrator(config, net, steps)
    with progress(name, trainer, len(data.train), parallel) as this.display:
        best = fit(net, integrator, data, trainer, config["seed"], this)
    this.record["final"] = final(net, data, trainer, best.row)
    store.save_trained(this.record["key"], net, best.row["ranks"])


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
