"""What a sweep consists of, cells that were never started among it: results_dir/sweeps/NAME-HASH.json."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.secrets import redacted
from experiments.storage import replacing

if TYPE_CHECKING:  # imports torch, which takes seconds: too long for who only reads
    from experiments.references import Cell

READABLE = 60  # characters of a sweep's name in its file's name


@dataclass(frozen=True)
class Planned:
    """A cell of a sweep: its run's key, name and integrator, and the overrides that compose it."""

    key: str
    name: str
    integrator: str
    overrides: tuple[str, ...]

    @classmethod
    def of(cls, cell: Cell) -> Planned:
        return cls(cell.key, cell.name, cell.value("integrator"), cell.overrides)


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was last written: its arguments, its cells, and how many more wait for these to end.

    `written`: when, ISO in UTC; empty if the sweep was never begun.
    """

    name: str
    written: str
    arguments: tuple[str, ...]
    cells: tuple[Planned, ...]
    left_open: int


def write(folder: Path, name: str, arguments: Sequence[str], cells: Sequence[Cell], left_open: int) -> None:
    """Note what the sweep `name` consists of in the folder of runs `folder`, in place of what was noted before.

    A note that cannot be written (the disk is full) is left out: it stops no sweep.
    """
    found = {
        "name": name,
        "written": datetime.now(UTC).isoformat(),
        "arguments": list(arguments),
        "cells": [vars(Planned.of(cell)) | {"overrides": list(cell.overrides)} for cell in cells],
        "left_open": left_open,
    }
    with suppress(OSError), replacing(_path(folder, name)) as temporary:
        temporary.write_text(json.dumps(redacted(found), indent=1), encoding="utf-8")


def all_of(folder: Path) -> list[Sweep]:
    """The sweeps in the folder of runs `folder`, the newest first; a damaged file is left out."""
    found = [sweep for path in (folder / "sweeps").glob("*.json") if (sweep := _read(path)) is not None]
    return sorted(found, key=lambda sweep: sweep.written, reverse=True)


def _read(path: Path) -> Sweep | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cells = tuple(Planned(**cell | {"overrides": tuple(cell["overrides"])}) for cell in found["cells"])
        return Sweep(**found | {"arguments": tuple(found["arguments"]), "cells": cells})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _path(folder: Path, name: str) -> Path:
    """A name may hold anything: its readable part, and a hash that tells apart those that share it."""
    readable = re.sub(r"[^\w=,.+-]+", "_", name, flags=re.ASCII).lstrip(".")[:READABLE]
    digest = hashlib.sha256(name.encode(errors="backslashreplace")).hexdigest()  # argv may hold bytes that are no text
    return folder / "sweeps" / f"{readable}-{digest[:8]}.json"
