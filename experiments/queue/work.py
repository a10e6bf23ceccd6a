"""Working a queue off within its time, and what is said about it."""

from __future__ import annotations

import time
from collections.abc import Callable

from experiments.compose import Compose
from experiments.progress import clock
from experiments.queue.backlog import LEFT, Backlog, Job
from experiments.queue.job import run
from experiments.queue.lines import Line
from experiments.queue.output import Output
from experiments.records import Store
from experiments.summary import outcome
from experiments.workers import Pool

STATES = ("done", "diverged", "failed", LEFT)


class Queue:
    """A backlog that a pool works off until `end`, a time of `time.monotonic`; all records go to `output`."""

    def __init__(
        self, backlog: Backlog, compose: Compose, pool: Pool, store: Store, output: Output, end: float
    ) -> None:
        self.backlog, self._compose, self._pool, self._store, self._output = backlog, compose, pool, store, output
        self._end = end
        self.started = 0

    def work(self, check: Callable[[], object]) -> None:
        """Run what is left and fits, until the time is over, or `check`, which is called every second, raises."""
        while (remaining := self._end - time.monotonic()) > 0:
            check()
            while self._pool.idle and (job := self.backlog.next(self._pool.jobs, remaining)):
                self._pool.start(job, run, self._compose(list(job.overrides)), job.overrides)
                self.started += 1
            if not self._pool.jobs:
                return
            for job, reason in self._pool.ended(min(remaining, 1.0)):
                self._note(job, str(reason))

    def _note(self, job: Job, reason: str) -> None:
        record = None if reason else self._store.get(job.cell.key)
        self.backlog.end(job, record)
        if record is None:
            print(f"{job.cell.name} [{job.cell.key[:4]}]: failed: {reason}", flush=True)
            return
        print(outcome(record), flush=True)
        self._output.add(record)
        self._output.write()

    def stop(self) -> None:
        """Stop what is running; its records say that it was preempted."""
        interrupted = self._pool.jobs
        self._pool.stop()
        for job in interrupted:
            if record := self._store.get(job.cell.key):
                self._output.add(record)
        if interrupted:
            print(f"{len(interrupted)} runs were stopped: the next call goes on with them")


def report(backlog: Backlog, minutes: float, idle: bool, again: str) -> int:
    """Print the states of each line's runs and how to go on; returns the exit code.

    `idle`: nothing was started. `again`: the command that goes on.
    """
    rows = [[*STATES, "each", "line"], *(_row(backlog, line) for line in backlog.lines)]
    print("\n".join("  ".join([*(text.rjust(8) for text in row[:-1]), row[-1]]) for row in rows))
    states = [state for line in backlog.lines for state in backlog.states(line)]
    failed, left = states.count("failed"), states.count(LEFT)
    for reason in dict.fromkeys(reason for line in backlog.lines for reason in line.reasons):
        print(f"not run: {reason}")
    if left and idle:
        print(f"no run is expected to fit into {minutes:g} minutes: give more with --minutes")
    if left or failed:
        print(f"{left} runs are left and {failed} failed; go on with: {again}", flush=True)
    return 1 if failed else 75 if left else 0


def _row(backlog: Backlog, line: Line) -> list[str]:
    states, typical = backlog.states(line), backlog.typical(line)
    each = "" if typical is None else clock(typical)
    return [*(str(states.count(state)) for state in STATES), each, line.text]
