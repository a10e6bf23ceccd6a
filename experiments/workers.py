"""Processes that do one call after another, and may die without harm to the others or to this one."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

SPAWN = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
GRACE = 30.0  # seconds that a process has to end its step and write what is to be kept


class Died(RuntimeError):
    """The process of a call died."""

    def __init__(self, code: int | None) -> None:
        cause = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        super().__init__(f"its process died ({cause})")


@dataclass
class Worker:
    """A process, the connection to it, and what it is doing."""

    process: SpawnProcess
    connection: Connection
    job: Any = None


class Pool:
    """At most `size` workers, each started when it is needed first; `quiet` ones print nothing."""

    def __init__(self, size: int, quiet: bool = False) -> None:
        self._size, self._quiet = size, quiet
        self._workers: list[Worker] = []

    @property
    def jobs(self) -> list[Any]:
        """What is being done."""
        return [worker.job for worker in self._workers if worker.job is not None]

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return len(self.jobs) < self._size

    def start(self, job: Any, call: Callable[..., Any], *arguments: Any) -> None:
        """Let an idle worker call `call(*arguments)`, which are pickled; `job` is what `ended` names it by."""
        self._workers = [worker for worker in self._workers if worker.job is not None or worker.process.is_alive()]
        worker = next((worker for worker in self._workers if worker.job is None), None)
        if worker is None:
            worker = _hired(self._quiet)
            self._workers.append(worker)
        worker.job = job
        with contextlib.suppress(OSError):  # it has died, which `ended` finds out
            worker.connection.send((call, arguments))

    def ended(self, seconds: float | None) -> list[tuple[Any, Any]]:
        """Wait until calls have ended, at most `seconds`: (job, what it returned or the exception that it raised)."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        found = []
        for connection in wait(list(busy), seconds):
            worker = busy[connection]  # type: ignore[index]
            job, worker.job = worker.job, None
            try:
                found.append((job, worker.connection.recv()))
            except (EOFError, OSError):
                worker.process.join(GRACE)
                found.append((job, Died(worker.process.exitcode)))
                self._workers.remove(worker)
        return found

    def stop(self) -> None:
        """End all processes: busy ones are told to stop, and have GRACE seconds for it."""
        for worker in self._workers:
            if worker.job is not None:
                worker.process.terminate()
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(GRACE)
            worker.process.kill()
        self._workers.clear()


def _hired(quiet: bool) -> Worker:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(theirs, quiet), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _serve(connection: Connection, quiet: bool) -> None:
    """A worker's life: it ends when its parent has ended or has no more calls, after the one that it is in."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches all processes: the parent tells whom to stop
    if quiet:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        while True:
            call, arguments = connection.recv()
            try:
                result = call(*arguments)
            except Exception as error:
                result = error
            connection.send(portable(result))


def portable(result: Any) -> Any:
    """The result if it survives pickling, else an error with its text: exceptions of a user's own may not."""
    try:
        pickle.loads(pickle.dumps(result))
    except Exception:
        return RuntimeError(f"{type(result).__name__}: {result}")
    return result
