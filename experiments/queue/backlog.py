"""Which cell of a queue is next, and what became of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from experiments.queue.lines import Line
from experiments.records import Store, needs_training
from experiments.references import Cell
from experiments.standing import expected

Record = dict[str, Any]
LEFT = "left"  # the state of what is not over; the others are those of a record


@dataclass(frozen=True)
class Job:
    """A cell to run, even if it is recorded when `again`: its weights are needed and lost."""

    cell: Cell
    again: bool = False

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside it: it measures time."""
        return bool(self.cell.config["task"] != "train")

    @property
    def overrides(self) -> tuple[str, ...]:
        """The cell's overrides."""
        return (*self.cell.overrides, "rerun=all") if self.again else self.cell.overrides


class Backlog:
    """The cells of a queue's lines. A run that is in several lines is run once, and once per call.

    Args:
        lines: the lines in order of work.
        store: their records.
        found: called with each record that makes a run unnecessary.
    """

    def __init__(self, lines: Sequence[Line], store: Store, found: Callable[[Record], object]) -> None:
        self.lines, self._store, self._found = lines, store, found
        self._states: dict[str, str] = {}  # of what is over
        self._cells: dict[str, Cell] = {}
        self._took: dict[str, tuple[str, float]] = {}  # the device of a finished run, and its seconds
        self._tried: set[str] = set()

    def _open(self, line: Line) -> None:
        """Open what blocks of the line can be opened, and take note of what is recorded."""
        while cells := line.open(self._states.__contains__, self._store):
            for cell in cells:
                self._cells.setdefault(cell.key, cell)
                record = None if cell.key in self._tried else self._store.get(cell.key)
                if record is not None and not needs_training(record, line.cfg.rerun):
                    self._note(cell.key, record)
                    self._found(record)

    def _note(self, key: str, record: Record) -> None:
        self._states[key] = record["status"]
        if record["status"] == "done":
            self._took[key] = record["provenance"].get("device") or "", record["timing"]["seconds"]

    def next(self, running: Sequence[Job], seconds: float) -> Job | None:
        """The first job that can start beside `running` and is expected to end within `seconds`.

        If there is none, the first training that is not: its next call goes on from its checkpoint.
        """
        if any(job.alone for job in running):
            return None
        job = self._first(lambda job, expected: expected <= seconds) or self._first(lambda job, _: not job.alone)
        if job is None or (job.alone and running):
            return None  # the device is left to the running ones until what measures time can have it alone
        self._tried.add(job.cell.key)
        self._states.pop(job.cell.key, None)
        return job

    def _first(self, wanted: Callable[[Job, float], bool]) -> Job | None:
        """The first job that is `wanted`, as is decided by it and the seconds that it is expected to take."""
        for line in self.lines:  # those that are not reached yet cost no time
            self._open(line)
            times = self._times(line)
            for job in self._jobs(line):
                if wanted(job, expected(job.cell.value("integrator"), times) or 0.0):
                    return job
        return None

    def _jobs(self, line: Line) -> Iterator[Job]:
        """What the line's cells that are left need to be run first, or they themselves."""
        for cell in line.cells:
            if cell.key in self._tried or cell.key in self._states:
                continue
            source = self._cells.get(cell.config["weights"] or "")
            if source is None or self._store.weights_path(source.key).is_file():
                yield Job(cell)
            elif source.key not in self._tried:
                yield Job(source, again=True)
            elif source.key in self._states:
                yield Job(cell)  # it fails, and says why

    def end(self, job: Job, record: Record | None) -> None:
        """`job` has ended with `record`, None if it could not be recorded."""
        if record is None:
            self._states[job.cell.key] = "failed"
        elif record["status"] != "preempted":
            self._note(job.cell.key, record)

    def states(self, line: Line) -> list[str]:
        """The states of all cells of the line: of a record's, or left."""
        self._open(line)
        opened = [self._states.get(cell.key, LEFT) for cell in line.cells]
        return [*opened, *(["failed"] * len(line.reasons)), *([LEFT] * line.unopened)]

    def _times(self, line: Line) -> list[tuple[str, float]]:
        """The integrators and seconds of the line's finished runs on a device of its kind."""
        took = [(cell.value("integrator"), *self._took[cell.key]) for cell in line.cells if cell.key in self._took]
        return [(name, seconds) for name, device, seconds in took if device.startswith(line.device)]

    def typical(self, line: Line) -> float | None:
        """The median of the seconds of the line's finished runs on a device of its kind."""
        times = self._times(line)
        return median(seconds for _, seconds in times) if times else None
