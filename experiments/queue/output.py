"""The JSON-lines file of a queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.kept import line_of
from experiments.records import RERUN
from experiments.storage import replacing

Record = dict[str, Any]


class Output:
    """Records in a file, besides those that are in it: another queue's, say. An unfinished one replaces none."""

    def __init__(self, path: Path, kept: dict[str, Record]) -> None:
        self.path = path
        self._lines = {key: line_of(record) for key, record in kept.items()}
        self._finished = {key for key, record in kept.items() if _is_finished(record)}

    def add(self, record: Record) -> None:
        """Take the record into the file that `write` writes."""
        key = record["key"]
        if _is_finished(record):
            self._finished.add(key)
        elif key in self._finished:
            return
        self._lines[key] = line_of(record)

    def write(self) -> None:
        """Write the file in one piece: a reader sees the old one or the new one.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            with replacing(self.path) as temporary:
                temporary.write_text("".join(self._lines.values()), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--out {self.path}: cannot be written ({error.strerror}); give another file") from error


def _is_finished(record: Record) -> bool:
    return record["status"] not in RERUN["failed"]
