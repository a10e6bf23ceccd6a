"""What runs are doing now: results_dir/running/KEY.json, there from a run's start to its end.

A process that is killed leaves its note behind, but not the run's lock: `alive` tells it from one that runs.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from experiments.storage import replacing


@dataclass(frozen=True)
class Running:
    """How far the run `key` is: in epoch `epoch` of `epochs`, `step` of `steps` done, of the whole training.

    `steps` is 0 where that is unknown, `seconds` what all stretches of the training took so far; `started`: this
    stretch's start, ISO in UTC; `updated`: when this was noted, in seconds since 1970.
    """

    key: str
    name: str
    host: str
    pid: int
    started: str
    epoch: int
    epochs: int
    step: int
    steps: int
    seconds: float
    updated: float

    @property
    def share_left(self) -> float:
        """How much of the training was left at `updated`, of 1; 1 if that is unknown."""
        return max(0.0, 1 - self.step / self.steps) if self.steps else 1.0

    @property
    def seconds_of_all(self) -> float | None:
        """The seconds that the whole training takes at the pace so far; None if that is unknown."""
        return self.seconds / self.step * self.steps if self.step and self.steps else None


def note(folder: Path, running: Running) -> None:
    """Write the note in one piece. One that cannot be written (the disk is full) is left out: it stops no run."""
    with suppress(OSError), replacing(_path(folder, running.key)) as temporary:
        temporary.write_text(json.dumps(asdict(running)))


def clear(folder: Path, key: str) -> None:
    """Remove the note of the run `key`, if there is one and it can be removed."""
    with suppress(OSError):
        _path(folder, key).unlink()


def noted(folder: Path) -> dict[str, Running]:
    """The notes in the folder of runs `folder` by key; a damaged one is left out."""
    found = (_read(path) for path in sorted((folder / "running").glob("*.json")))
    return {running.key: running for running in found if running is not None}


def alive(folder: Path, key: str) -> bool:
    """Whether a process holds the lock of the run `key`, on any host that shares the folder; it is not waited for.

    A lock that this user may not try counts as held.
    """
    path = folder / "locks" / f"{key}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _read(path: Path) -> Running | None:
    try:
        found = json.loads(path.read_text())
        values: dict[str, Any] = {field.name: field.type(found[field.name]) for field in fields(Running)}  # type: ignore[operator]
        return Running(**values) if values["key"] == path.stem else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _path(folder: Path, key: str) -> Path:
    return folder / "running" / f"{key}.json"
