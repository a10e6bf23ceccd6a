"""Processes that run one job after another: torch is imported, and the data are read, once in each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch
from hydra import initialize_config_dir

from experiments import cell
from experiments.compose import Compose, hydra_compose_cell, remembering
from experiments.config import CONF
from experiments.explain import explain, is_mistake
from experiments.queue.backlog import Job
from experiments.records import identity
from experiments.signals import GRACE
from experiments.validate import validate

SPAWN = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA


@dataclass
class Worker:
    """A process, the connection to it, and the job that it is doing."""

    process: SpawnProcess
    connection: Connection
    job: Job | None = None


class Pool:
    """At most `size` workers, each started when it is needed first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._workers: list[Worker] = []

    @property
    def jobs(self) -> list[Job]:
        """What is being done."""
        return [worker.job for worker in self._workers if worker.job is not None]

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return len(self.jobs) < self._size

    def start(self, job: Job) -> None:
        """Give `job` to an idle worker."""
        worker = next((worker for worker in self._workers if worker.job is None), None)
        if worker is None:
            worker = _hired()
            self._workers.append(worker)
        worker.job = job
        with contextlib.suppress(OSError):  # it has died, which `ended` finds out
            worker.connection.send(job.overrides)

    def ended(self, seconds: float | None) -> list[tuple[Job, str]]:
        """Wait until jobs have ended, at most `seconds`; each comes with why it was not run, or ""."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        found = []
        for connection in wait(list(busy), seconds):
            worker = busy[connection]  # type: ignore[index]
            assert worker.job is not None
            job, worker.job = worker.job, None
            try:
                found.append((job, worker.connection.recv()))
            except (EOFError, OSError):
                worker.process.join(GRACE)
                found.append((job, _obituary(worker.process.exitcode)))
                self._workers.remove(worker)
        return found

    def stop(self) -> None:
        """End all processes: busy ones have GRACE seconds to write their records."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(GRACE)
            worker.process.kill()


def _hired() -> Worker:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _obituary(code: int | None) -> str:
    recorded = code in (128 + signal.SIGTERM, 128 + signal.SIGINT)  # the run was stopped, by someone else
    return "" if recorded else f"its process died (exit code {code})"


def _serve(connection: Connection) -> None:
    """A worker's life: it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches all processes: the parent tells whom to stop
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        compose = remembering(hydra_compose_cell)
        while True:
            try:
                overrides = connection.recv()
            except EOFError:
                return
            connection.send(_run(compose, overrides))


def _run(compose: Compose, overrides: Sequence[str]) -> str:
    torch.set_num_threads(1)  # runs may set another number
    try:
        cfg = compose(list(overrides))
        validate(cfg)
        cell.recorded(cfg, identity(cfg), cell.Place(overrides, sweep=True, parallel=True))
    except Exception as error:
        return explain(error) if is_mistake(error) else "".join(traceback.format_exception_only(error)).strip()
    return ""
