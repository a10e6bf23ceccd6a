"""A run while it goes on: its record, what is said and kept of it, and what a checkpoint needs to know of it."""

import os
import platform
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments import running
from experiments.checkpoints import Checkpoints
from experiments.evaluation import Row
from experiments.joblog import news
from experiments.loggers import Logger
from experiments.progress import Display, figures
from experiments.records import SCHEMA, key_of, name_of
from experiments.signals import Preempted, Stop
from experiments.trainer import Seconds, Training

Record = dict[str, Any]
NOTED = 5.0  # seconds from one note of the progress to the next


class Run:
    """A run's record while it is being trained; the trainer's `Watch`.

    Args:
        config: the run's identity; id: the same in all its stretches, for the logger.
        folder: that of all results.
        checkpoints: where the training is kept, every `every` seconds and when `stop` tells it to end.
    """

    def __init__(
        self, config: Record, id: str, folder: Path, logger: Logger, checkpoints: Checkpoints, every: float, stop: Stop
    ) -> None:
        self.config, self.id, self.folder, self.logger, self.stop = config, id, folder, logger, stop
        self.checkpoints, self.every = checkpoints, every
        self.display: Display | None = None
        self.epoch: int | None = None
        self.steps = self.total_steps = 0
        self.start = self.kept = time.monotonic()
        self.noted = 0.0
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
        """An epoch starts, or goes on."""
        self.epoch = epoch
        self.note()

    def step(self, training: Training) -> None:
        """A step is done. Raises Preempted if it was the last for now."""
        assert self.display is not None
        self.steps += 1
        self.display.batch()
        now = time.monotonic()
        try:
            self.stop.check()
        except Preempted:
            self.keep(training)
            raise
        if now - self.kept >= self.every:
            self.keep(training)
            self.kept = time.monotonic()
        if now - self.noted >= NOTED:
            self.note()

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
        news.info("epoch %d  %s", row["epoch"], figures(row))

    def note(self) -> None:
        """Say in the folder of results how far the run is."""
        self.noted = time.monotonic()
        record, epochs = self.record, self.config["trainer"]["epochs"]
        running.note(
            self.folder,
            running.Running(
                key=record["key"],
                name=record["name"],
                host=platform.node(),
                pid=os.getpid(),
                started=record["timing"]["started"],
                epoch=self.epoch or 0,
                epochs=epochs,
                step=self.steps,
                steps=self.total_steps,
                seconds=self.seconds,
                updated=time.time(),
            ),
        )

    @property
    def seconds(self) -> float:
        """What the run took so far, all its stretches."""
        return time.monotonic() - self.start

    def keep(self, training: Training) -> None:
        """Write a checkpoint."""
        own = {key: self.record[key] for key in ("history", "start", "timing", "provenance")}
        snapshot = training.snapshot()
        state = snapshot.state | {"run": own | {"id": self.id, "steps": self.steps, "seconds": self.seconds}}
        self.checkpoints.write(replace(snapshot, state=state))

    def resume(self, own: Record) -> None:
        """Go on with what `keep` kept of the run; its earlier stretches stay in the provenance."""
        record = self.record
        record |= {key: own[key] for key in ("history", "start", "timing")}
        earlier = dict(own["provenance"])
        record["provenance"]["earlier"] = [*earlier.pop("earlier", []), earlier | {"until_step": own["steps"]}]
        self.steps = own["steps"]
        self.start -= own["seconds"]
        for row in record["history"]:
            self.logger.log_epoch(row)

    def close(self, status: str, error: BaseException | None = None) -> None:
        """Note how the run ended."""
        self.record["status"] = status
        self.record["timing"]["seconds"] = round(self.seconds, 3)
        if error is not None:
            self.record["error"] = {
                "kind": type(error).__name__,
                "message": f"sys.exit({error}) was called" if isinstance(error, SystemExit) else str(error),
                "epoch": self.epoch,
                "layer": getattr(error, "layer", None),
                "traceback": "".join(traceback.format_exception(error)),
            }
