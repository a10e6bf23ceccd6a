"""Records in one JSON-lines file: what is kept beside a table, and what a queue brings back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.records import RERUN, STATUSES, Store, bare

Record = dict[str, Any]
# What follows from the ranks and shapes, and what is long.
_LEFT_OUT = {"singular_values", "eval_params", "train_params", "compression", "adapter_params"}


class Layered(Store):
    """The records of `results`, a folder of runs or a JSON-lines file, and of JSON-lines files under them.

    Of two records of a run, that of `results` counts unless it is unfinished, and that of a later file before that of
    an earlier one.
    """

    def __init__(self, results: Path, kept: Iterable[Path]) -> None:
        super().__init__(results)
        self.lines = read(results) if results.is_file() else None
        self.kept = {key: record for path in kept if path.is_file() for key, record in read(path).items()}

    def get(self, key: str) -> Record | None:
        """The record of the run `key`, or None."""
        fresh = super().get(key) if self.lines is None else self.lines.get(key)
        unfinished = fresh is None or fresh["status"] in RERUN["failed"]
        return self.kept.get(key, fresh) if unfinished else fresh


def read(path: Path) -> dict[str, Record]:
    """The records in the file, by key; of several with one key the last.

    Raises:
        ConfigError: a line is no record.
    """
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = unpacked(json.loads(line))
            known = record["key"] is not None and record["status"] in STATUSES
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}, line {number} is no run record ({error!r}): delete the line") from error
        if not known:
            raise ConfigError(f"{path}, line {number} is no run record: delete the line")
        found[record["key"]] = record
    return found


def write(records: Iterable[Record], path: Path) -> None:
    """Writes the records as tables, figures and a reader need them, one a line."""
    path.write_text("".join(map(line_of, records)), encoding="utf-8")


def line_of(record: Record) -> str:
    """Returns the record's line in such a file."""
    return json.dumps(packed(record), separators=(",", ":"), allow_nan=False) + "\n"


def portable(words: Iterable[str]) -> list[str]:
    """The words of a command without the places of one machine: results_dir, data.root and a file of model.weights."""
    return [word for word in words if not _of_this_machine(*word.partition("=")[::2])]


def _of_this_machine(key: str, value: str) -> bool:
    return key in ("results_dir", "data.root") or (key == "model.weights" and not value.isidentifier())


def packed(record: Record) -> Record:
    """Returns the record with a history of columns, six digits each.

    Without traceback, times of epochs, what is neutral in the config, and what is of one machine in the command.
    """
    timing = {key: value for key, value in record["timing"].items() if key != "epoch_seconds"}
    error = record["error"] and {key: value for key, value in record["error"].items() if key != "traceback"}
    provenance = dict(record["provenance"])
    if "command" in provenance:
        provenance["command"] = shlex.join(portable(shlex.split(provenance["command"])))
    changed = {"history": _columns(record["history"]), "timing": timing, "error": error, "provenance": provenance}
    return record | {"config": bare(record["config"])} | changed


def unpacked(record: Record) -> Record:
    """Returns a record of `packed`, or any other, with a history of rows."""
    columns = record["history"]
    if not isinstance(columns, dict):
        return record
    ranks = [dict(zip(columns["ranks"], row, strict=True)) for row in zip(*columns["ranks"].values(), strict=True)]
    columns = columns | {"ranks": ranks or [{} for _ in columns["epoch"]]}
    return record | {"history": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _columns(rows: list[Record]) -> Record | list[Record]:
    if not rows:
        return []
    columns = {key: [_six_digits(row[key]) for row in rows] for key in rows[0] if key not in _LEFT_OUT}
    return columns | {"ranks": {layer: [row["ranks"][layer] for row in rows] for layer in rows[0]["ranks"]}}


def _six_digits(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
