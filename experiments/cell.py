"""One run: skipped if it is recorded, else trained or taken up again and recorded, however it ends."""

import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from dlrt import Divergence
from experiments import presets, running, signals
from experiments.checkpoints import Checkpoints, Snapshot
from experiments.command import in_one_sentence
from experiments.config import ConfigError
from experiments.execution import execute
from experiments.joblog import logging_to, news
from experiments.loggers import make_logger
from experiments.ongoing import Run
from experiments.output import patient
from experiments.place import Place, check_folder
from experiments.records import Store, identity, key_of, name_of, needs_training
from experiments.signals import Preempted, Stop, stoppable
from experiments.summary import already, label, outcome, unused
from experiments.validate import validate

Record = dict[str, Any]
ANEW = "all", "failed"  # what made it fail may have been mended, and have been wrong from the start


@patient()
def run(cfg: DictConfig, stop_file: Path | None = None) -> None:
    """Hydra's task: one run, alone or as a cell of a sweep, which `stop_file` stops.

    Raises:
        SystemExit: alone, the config is no possible run, or the run was preempted or failed.
        ConfigError: in a sweep, the config is no possible run.
    """
    place = Place.of_hydra(stop_file)
    if place.sweep:
        with suppress(Preempted):
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
    before = store.get(key)
    with store.lock(key, Stop(place.stop_file).check):
        record = store.get(key)
        by_another = record != before and record is not None and record["status"] != "preempted"
        if record is not None and (by_another or not needs_training(record, cfg.rerun)):
            print(already(record), flush=True)
            running.clear(store.folder, key)
            return record
        checkpoints = Checkpoints(store.folder / "checkpoints" / key)
        return train(cfg, config, store, place, checkpoints, unfinished(checkpoints, record, cfg.rerun))


def unfinished(checkpoints: Checkpoints, record: Record | None, rerun: str) -> Iterator[Snapshot]:
    """The snapshots of a training that is to go on: not those that one has left behind that is to be done again."""
    over = record is not None and (record["status"] in ("done", "diverged") or (rerun, record["status"]) == ANEW)
    for snapshot in checkpoints.readable():
        if record is None or not over or snapshot.state["run"]["timing"]["started"] > record["timing"]["started"]:
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
    check_folder(hydra)
    if cfg.blocks:
        name = hydra.runtime.choices.experiment
        raise ConfigError(f"{f'experiment={name}' if name else 'blocks=…'} is a sweep of several runs: add -m")
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
    with logging_to(store.log_path(config)), stoppable(place.stop_file) as stop:
        first = next(snapshots, None)
        id = first.state["run"]["id"] if first else f"{key_of(config)}-{uuid.uuid4().hex[:8]}"
        with make_logger(options, **names, config=config, id=id, results_dir=cfg.results_dir) as logger:
            this = Run(config, id, store.folder, logger, checkpoints, cfg.checkpoint_seconds, stop)
            attempt(cfg, this, store, place, snapshots if first is None else chain([first], snapshots))
            store.write(this.record)
            news.info(outcome(this.record))
            logger.finish(this.record)
    end(this, cfg, place)
    return this.record


def attempt(cfg: DictConfig, this: Run, store: Store, place: Place, snapshots: Iterator[Snapshot]) -> None:
    """Do what the run is for, and note how that ended."""
    this.note()
    try:
        execute(cfg, this, store, place, snapshots)
        this.close("done")
    except Divergence as error:
        this.close("diverged", error)
    except Preempted as error:
        this.close("preempted", error)
    except (Exception, SystemExit) as error:  # a user's own network may call sys.exit
        this.close("failed", error)
        news.info(this.record["error"]["traceback"])


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
        signals.stop_sweep(place.stop_file, f"on_error=raise, as {label(record)} failed")
    if signum is not None and (place.sweep or record["status"] == "preempted"):
        signals.pass_on(signum)
    if signum is not None and record["status"] == "preempted" and not place.sweep:
        sys.exit(128 + signum)
