"""Where runs stand: their records, and the notes of those that run or were killed; and how long the rest takes."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from experiments.running import Running, alive, noted
from experiments.sweeps import Planned

STATES = ("done", "running", "preempted", "diverged", "failed", "missing")
OPEN = ("running", "preempted", "missing")


@dataclass(frozen=True)
class Standing:
    """Where a run stands: one of STATES. A killed run is preempted; the same command goes on with both.

    epoch: "3/10", that it is in, or was when it was stopped; note: what else there is to say. seconds: what it took, or
    is expected to take at its pace, None if that is unknown; share: how much of it is still to be done, if it is open.
    """

    run: Planned
    state: str
    epoch: str = ""
    note: str = ""
    seconds: float | None = None
    share: float = 1.0


class Runs:
    """The runs in a folder as they are now. A record is read once, and only if it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._notes = noted(folder)
        # In this order: a run that ends meanwhile has its record before it lets go of its lock.
        self._alive = {key for key in self._notes if alive(folder, key)}
        self._paths = {path.stem.rpartition("-")[2]: path for path in (folder / "records").glob("*.json")}
        self._known: dict[str, Standing] = {}

    def beside(self, sweeps: Sequence[Sequence[Planned]]) -> list[Planned]:
        """The runs that belong to none of the sweeps."""
        names = {key: path.stem.rpartition("-")[0] for key, path in self._paths.items()}
        names |= {key: running.name for key, running in self._notes.items()}
        members = {run.key for runs in sweeps for run in runs}
        return [Planned(key, name, "", ()) for key, name in names.items() if key not in members]

    def of(self, run: Planned) -> Standing:
        """Where the run stands."""
        if run.key not in self._known:
            self._known[run.key] = self._find(run)
        return self._known[run.key]

    def _find(self, run: Planned) -> Standing:
        running, path = self._notes.get(run.key), self._paths.get(run.key)
        if running is not None and run.key in self._alive:
            return _going_on(run, running)
        if running is not None and (path is None or path.stat().st_mtime < running.updated):
            return self._killed(run, running)
        return Standing(run, "missing") if path is None else self._recorded(run, path)

    def _killed(self, run: Planned, running: Running) -> Standing:
        note, kept = f"killed or not recorded ({_process(running)})", self._has_checkpoint(run.key)
        share = running.share_left if kept else 1.0
        return Standing(run, "preempted", _epoch(running), f"{note}, {_next(kept)}", running.seconds_of_all, share)

    def _recorded(self, run: Planned, path: Path) -> Standing:
        try:
            record = json.loads(path.read_text())
            if record["key"] == run.key and record["status"] in STATES:
                return self._of(run, record)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass  # half of one, or something else
        return Standing(run, "missing", note=f"{path} is no record of it: delete it")

    def _of(self, run: Planned, record: dict[str, Any]) -> Standing:
        state, error = record["status"], record["error"]
        if state == "done":
            return Standing(run, state, seconds=float(record["timing"]["seconds"]))
        if state != "preempted":
            return Standing(run, state, note=_first_line(error))
        past, epochs = len(record["history"]), record["config"]["trainer"]["epochs"]
        kept = self._has_checkpoint(run.key)
        epoch = f"{error.get('epoch') or past}/{epochs}"
        return Standing(run, state, epoch, _next(kept), share=1 - past / max(1, epochs) if kept else 1.0)

    def _has_checkpoint(self, key: str) -> bool:
        return any((self.folder / "checkpoints" / key).glob("step-*"))


def _going_on(run: Planned, running: Running) -> Standing:
    share, seconds = running.share_left, running.seconds_of_all
    if seconds:
        share = max(0.0, share - (time.time() - running.updated) / seconds)
    return Standing(run, "running", _epoch(running), _process(running), seconds, share)


def _epoch(running: Running) -> str:
    return f"{running.epoch}/{running.epochs}"


def _process(running: Running) -> str:
    return f"process {running.pid} on {running.host}"


def _next(kept: bool) -> str:
    return "goes on from its checkpoint" if kept else "starts again: it has no checkpoint"


def _first_line(error: dict[str, Any]) -> str:
    where = "" if error.get("epoch") is None else f"in epoch {error['epoch']}: "
    return where + (error["message"].splitlines() or [error["kind"]])[0]


def seconds_left(runs: Sequence[Standing]) -> list[float | None]:
    """What each run still takes: 0 if it is over, None if nothing is known.

    By its own pace, else as the finished runs of the same integrator (their median), else as all finished ones; while
    none is finished, as the unfinished ones at their pace.
    """
    finished = [(run.run.integrator, run.seconds) for run in runs if run.state == "done" and run.seconds is not None]
    times = finished or [(run.run.integrator, run.seconds) for run in runs if run.seconds is not None]
    return [_left(run, times) for run in runs]


def _left(run: Standing, times: Sequence[tuple[str, float]]) -> float | None:
    if run.state not in OPEN:
        return 0.0
    seconds = run.seconds if run.seconds is not None else expected(run.run.integrator, times)
    return None if seconds is None else seconds * run.share


def expected(integrator: str, times: Sequence[tuple[str, float]]) -> float | None:
    """The median of the seconds of the same integrator's runs, else of all; None if there are none."""
    alike = [seconds for name, seconds in times if name == integrator] or [seconds for _, seconds in times]
    return median(alike) if alike else None


def total(runs: Sequence[Standing], left: Sequence[float | None]) -> float | None:
    """What all of them take together, as many at a time as are running now; None if one of them is unknown."""
    known = [seconds for seconds in left if seconds is not None]
    if len(known) < len(left):
        return None
    going_on = [seconds for run, seconds in zip(runs, known, strict=True) if run.state == "running"]
    return max(sum(known) / max(1, len(going_on)), *going_on, 0.0)
