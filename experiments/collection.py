"""What is recorded of a preset, and the command line that asks for it: NAME [results_dir=…] [out=…] [overrides]."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments import presets
from experiments.aggregate import Record
from experiments.config import ConfigError
from experiments.explain import explain, is_mistake
from experiments.records import Store
from experiments.references import literal

DEFAULT = Path("runs")
KEPT = "records.jsonl"


@dataclass(frozen=True)
class Collection:
    """The records of a preset's runs, in the preset's order; `source` is where they lie.

    `overrides` are those the preset was run with besides its own.
    """

    preset: presets.Preset
    overrides: tuple[str, ...]
    records: list[Record]
    source: Path

    @property
    def missing(self) -> list[dict[str, object]]:
        """The configs of the runs without a record."""
        keys = {record["key"] for record in self.records}
        return [cell.config for cell in self.preset.cells if cell.key not in keys]

    @property
    def command(self) -> str:
        """The command that runs what is missing."""
        return " ".join([f"python -m experiments.run -m experiment={self.preset.name}", *self.overrides])


def collect(name: str, results_dir: Path, kept: Path, overrides: Sequence[str] = ()) -> Collection:
    """Returns the preset's records in `results_dir`; if it has none, those in the file `kept`.

    Raises:
        ConfigError: no run of the preset is recorded in either place.
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: no such preset or override.
    """
    collection = _stored(name, results_dir, overrides)
    if not collection.records and kept.is_file():
        collection = _kept(name, kept, overrides)
        print(f"no run of {name} is recorded in {results_dir}: taken from {kept}", file=sys.stderr)
    if not collection.records:
        raise ConfigError(f"no run of {name} is recorded in {results_dir}: make them with `{collection.command}`")
    return collection


def _stored(name: str, results_dir: Path, overrides: Sequence[str]) -> Collection:
    preset = presets.load(name, [f"results_dir={literal(str(results_dir))}", *overrides])
    store = Store(results_dir)
    records = [record for cell in preset.cells if (record := store.get(cell.key)) is not None]
    place = () if results_dir == DEFAULT else (f"results_dir={results_dir.as_posix()}",)
    return Collection(preset, (*place, *overrides), records, results_dir / "records")


def _kept(name: str, kept: Path, overrides: Sequence[str]) -> Collection:
    with TemporaryDirectory() as folder:
        store = Store(folder)
        for line in kept.read_text(encoding="utf-8").splitlines():
            store.write(json.loads(line))
        collection = _stored(name, Path(folder), overrides)
    return replace(collection, overrides=tuple(overrides), source=kept)


def keep(collection: Collection, kept: Path) -> None:
    """Writes the records to the file `kept`, one a line and without the singular values."""
    lines = [json.dumps(_without_spectra(record)) for record in collection.records]
    kept.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_kept(folder: Path, collection: Collection) -> None:
    """Make `folder`; refuse one that cannot be made, or whose kept records are more than those about to replace them.

    Raises:
        ConfigError: with the sentence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={folder.parent}: cannot write there ({error.strerror}); give another folder") from error
    kept = folder / KEPT
    count = len(kept.read_text(encoding="utf-8").splitlines()) if kept.exists() else 0
    if count > len(collection.records):
        raise ConfigError(
            f"{folder} keeps {count} records and this selection has {len(collection.records)}: "
            f"write it elsewhere with out=FOLDER, or delete {kept}"
        )


def _without_spectra(record: Record) -> Record:
    rows = [{key: row[key] for key in row if key != "singular_values"} for row in record["history"]]
    return record | {"history": rows}


def command(argv: Sequence[str], module: str, make: Callable[[Collection, Path], None]) -> None:
    """Calls `make` with what the command line asks for and the folder for its files, which it creates.

    `argv` is NAME [results_dir=runs] [out=results], with the overrides that the preset was run with, if any. What
    the user got wrong ends in one sentence and exit code 1.
    """
    options = {"results_dir": str(DEFAULT), "out": "results"}
    options |= dict(argument.split("=", 1) for argument in argv if argument.startswith(("results_dir=", "out=")))
    names = [argument for argument in argv if "=" not in argument]
    overrides = [a for a in argv if "=" in a and a.split("=", 1)[0] not in options]
    try:
        if len(names) != 1 or names[0].startswith("-"):
            raise ConfigError(f"usage: python -m {module} NAME [results_dir=runs] [out=results], got {names}")
        folder = Path(options["out"], names[0])
        collection = collect(names[0], Path(options["results_dir"]), folder / KEPT, overrides)
        check_kept(folder, collection)
        make(collection, folder)
    except Exception as error:
        if not is_mistake(error):
            raise
        sys.exit(explain(error))
