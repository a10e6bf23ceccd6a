"""What runs that go on, and killed ones, leave in a folder of runs."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.records import Store
from experiments.running import Running

HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def running(run: dict[str, Any], **fields: Any) -> Running:
    """After 30 of 40 steps in 60 seconds."""
    values: dict[str, Any] = dict(
        key=run["key"], name=run["name"], host="here", pid=7, started="2026-01-01T00:00:00+00:00",
        epoch=3, epochs=4, step=30, steps=40, seconds=60.0, updated=time.time(),
    )  # fmt: skip
    return Running(**values | fields)


@contextmanager
def held(folder: Path, run: dict[str, Any]) -> Iterator[None]:
    with Store(folder).lock(run["key"]):
        yield


def checkpoint(folder: Path, run: dict[str, Any]) -> None:
    (folder / "checkpoints" / run["key"] / "step-00000030").mkdir(parents=True)


@contextmanager
def process_with(folder: Path, key: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the run `key`; killed in the end."""
    path = folder / "locks" / f"{key}.lock"
    path.parent.mkdir(exist_ok=True)
    arguments = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
