"""The records of a benchmark: one JSON line per case, appended; the last one of a key counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.benchmark.cases import Case
from experiments.config import ConfigError
from experiments.records import key_of

FILE = "records.jsonl"
SCHEMA = 1

Record = dict[str, Any]


def key(case: Case, device: str, threads: int | None) -> str:
    """What identifies a measurement: the case and where it is made, e.g. "cpu: <processor>" with 2 threads."""
    return key_of({"step": case.step, "device": device, "threads": threads})


def append(folder: Path, record: Record) -> None:
    """Add a record to the folder's file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")


def read(folder: Path) -> dict[str, Record]:
    """The last record of each key.

    Raises:
        ConfigError: a line is no record; the last one, which an interrupted run has cut off, is passed over.
    """
    if not (folder / FILE).is_file():
        return {}
    lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            records[record["key"]] = record
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise ConfigError(f"{folder / FILE}:{number} is no record ({error}): delete the line") from error
    return records
