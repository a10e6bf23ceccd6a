"""The runs of a sweep as a launcher's jobs: started again where the launcher lost them, stopped all together."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig

from experiments import running
from experiments.launcher import ProcessLauncher
from experiments.records import Store
from experiments.references import Cell
from experiments.signals import stop_sweep, stopped, stopping
from experiments.summary import note_of
from experiments.workers import Died

Record = dict[str, Any]
Task = Callable[[DictConfig, Path], object]


@dataclass(frozen=True)
class Job:
    """A run as a launcher calls it; it does nothing once its sweep is stopped."""

    task: Task
    stop_file: Path

    def __call__(self, cfg: DictConfig) -> object:
        return None if stopped(self.stop_file) else self.task(cfg, self.stop_file)


class Jobs:
    """Runs cells through the launcher that `config` names, at most `size` at a time (None: all).

    `begun`: the keys of the cells that the launcher was given; `errors`: by key, failed or killed, and why, of a cell
    that has no record of what became of it; `stopped`: why the sweep was stopped, or an empty text.
    """

    def __init__(
        self, hydra_context: HydraContext, task: Task, config: DictConfig, store: Store, size: int | None
    ) -> None:
        self._store, self._size = store, size
        self._stop_file = (store.folder / "locks" / f"stop-{uuid.uuid4().hex}").resolve()
        job: Any = Job(task, self._stop_file)
        self._launcher = Plugins.instance().instantiate_launcher(hydra_context, job, config)
        self._number = 0
        self.begun: set[str] = set()
        self.errors: dict[str, tuple[str, str]] = {}
        self._raises = config.get("on_error") == "raise"

    def end_of(self, cell: Cell) -> tuple[str, Record | None, str]:
        """The state of the cell's run, its record, if it has one that says so, and what else there is to say of it."""
        if cell.key in self.errors:
            state, reason = self.errors[cell.key]
            return state, None, reason
        record = self._store.get(cell.key)
        return record["status"] if record else "not run", record, note_of(record, cell.key in self.begun)

    @property
    def stopped(self) -> str:
        return stopped(self._stop_file)

    def __enter__(self) -> Self:
        self._stop_file.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._stop_file.unlink(missing_ok=True)
        if isinstance(self._launcher, ProcessLauncher):
            self._launcher.close()

    def run(self, cells: Sequence[Cell]) -> None:
        """Run the cells; what becomes of them is in the store, or in `errors`."""
        size = self._size or max(1, len(cells))
        for i in range(0, len(cells), size):
            self._launch(cells[i : i + size])

    def _launch(self, cells: Sequence[Cell]) -> None:
        if not cells or self.stopped:
            return
        before = {cell.key: self._store.get(cell.key) for cell in cells}
        self.begun |= before.keys()
        try:
            for cell, result in zip(cells, self._results(cells), strict=True):
                if result.status == JobStatus.FAILED:
                    self._fail([cell], result._return_value, isinstance(result._return_value, Died))
        except Exception as error:  # every launcher has its own for a worker that died
            self._relaunch([cell for cell in cells if self._store.get(cell.key) == before[cell.key]], cells, error)

    def _fail(self, cells: Sequence[Cell], error: object, killed: bool) -> None:
        self.errors |= {cell.key: ("killed" if killed else "failed", in_a_line(error)) for cell in cells}
        if self._raises:
            stop_sweep(self._stop_file, f"on_error=raise: {in_a_line(error)}")

    def _results(self, cells: Sequence[Cell]) -> Sequence[JobReturn]:
        with stopping(self._stop_file):
            results = self._launcher.launch([list(cell.overrides) for cell in cells], initial_job_idx=self._number)
        self._number += len(cells)
        return results

    def _relaunch(self, lost: Sequence[Cell], cells: Sequence[Cell], error: Exception) -> None:
        """The launcher broke: run what was lost again, one by one what was running then, as one of these broke it."""
        noted = running.noted(self._store.folder)
        suspects = [cell for cell in lost if cell.key in noted and not running.alive(self._store.folder, cell.key)]
        if len(cells) == 1 or not suspects:
            self._fail(lost, error, bool(suspects))
            return
        print(f"the launcher broke ({in_a_line(error)}): {len(lost)} runs are started again", flush=True)
        self._launch([cell for cell in lost if cell not in suspects])
        for cell in suspects:
            self._launch([cell])


def in_a_line(error: object) -> str:
    """An exception in a line; of a long one, its first sentence."""
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) < 120 else line.partition(". ")[0][:240]
