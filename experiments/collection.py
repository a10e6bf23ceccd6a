"""What is recorded of a preset, and the command line that asks for it: NAME [results_dir=…] [out=…] [overrides]."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import kept, presets
from experiments.aggregate import Record
from experiments.command import in_one_sentence
from experiments.config import ConfigError
from experiments.records import key_of
from experiments.references import literal
from experiments.searches import with_found

DEFAULT = Path("runs")
OUT = Path("results")
KEPT = "records.jsonl"
_PLACES = {"data.root": "FOLDER", "model.weights": "FILE"}


@dataclass(frozen=True)
class Collection:
    """The records of a preset's runs, in the preset's order; `source` is the file that keeps them.

    `overrides` are those the preset was run with besides its own.
    """

    preset: presets.Preset
    overrides: tuple[str, ...]
    records: list[Record]
    source: Path

    @property
    def missing(self) -> list[dict[str, object]]:
        """The configs of the runs without a record."""
        keys = {key for record in self.records for key in (record["key"], _placeless(record))}
        return [cell.config for cell in self.preset.cells if cell.key not in keys]

    @property
    def title(self) -> str:
        """The preset's title with the protocol, and the budget if it is not the full one."""
        words = [self.preset.title]
        words += [f"protocol {self.preset.protocol}"] * (self.preset.protocol is not None)
        words += [f"budget {self.preset.budget}"] * (self.preset.budget != "full")
        return ", ".join(words)

    @property
    def outcome(self) -> str:
        """How many of the runs finished, and how many diverged."""
        done, diverged = (sum(record["status"] == status for record in self.records) for status in ("done", "diverged"))
        return f"{done} of {len(self.preset.cells) + self.preset.unresolved} runs finished, {diverged} diverged"

    @property
    def command(self) -> str:
        """The command that runs what is missing, with words in place of files and folders of this machine."""
        overrides = map(_anywhere, self.overrides)
        return " ".join([f"python -m experiments.run -m experiment={self.preset.name}", *overrides])


def _anywhere(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key}={_PLACES[key]}" if key in _PLACES and not value.isidentifier() else override


def _placeless(record: Record) -> str:
    """The key that the run would have had the command line not said where the data are."""
    config = record["config"]
    return key_of(config | {"data": config["data"] | {"source": None, "root": None}})


def folder_of(out: Path, name: str, preset: presets.Preset) -> Path:
    """Where tables and figures of the preset `name` go with `preset`'s protocol and budget: OUT/NAME/PROTOCOL[-BUDGET].

    Without protocols OUT/NAME, and OUT/NAME/BUDGET for a budget that is not the full one.
    """
    return out / name / subfolder(preset.protocol, preset.budget)


def subfolder(protocol: str | None, budget: str) -> str:
    """The last part of that folder, PROTOCOL[-BUDGET], or nothing."""
    return "-".join(filter(None, [protocol, budget if budget != "full" else None]))


def collect(name: str, results: Path = DEFAULT, out: Path = OUT, overrides: Sequence[str] = ()) -> Collection:
    """Returns the preset's records in `results`, a folder of runs or a JSON-lines file, and those kept in `out`.

    Kept are those beside the preset's table, and those beside the tables of the presets in its `table.records_from`.
    Where `overrides` do not say where the data are, those of any place serve: a clean clone has none.

    Raises:
        ConfigError: no run of the preset is recorded in either place.
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: no such preset or override.
    """
    if results.suffix == ".jsonl" and not results.is_file():
        raise ConfigError(f"results_dir={results}: there is no such file; give a folder of runs or a file of records")
    unresolved = presets.load(name, overrides)  # knows where its records are kept
    sources = [folder_of(out, source, unresolved) / KEPT for source in (*_shared(unresolved), name)]
    store = kept.Layered(results, sources)
    in_folder = [] if results.is_file() else [f"results_dir={literal(str(results))}"]
    preset = with_found(presets.load(name, [*in_folder, *overrides], store), store)
    elsewhere = {_placeless(record): record for record in (store.kept | (store.lines or {})).values()}
    found = (store.get(cell.key) or elsewhere.get(cell.key) for cell in preset.cells)
    records = [record for record in found if record is not None]
    place = () if results == DEFAULT or results.is_file() else (f"results_dir={results.as_posix()}",)
    collection = Collection(preset, (*place, *overrides), records, sources[-1])
    if not records:
        raise ConfigError(f"no run of {name} is recorded in {results}: make them with `{collection.command}`")
    if taken := sum(store.kept.get(record["key"]) is record for record in records):
        print(f"{taken} of {len(records)} records of {name} are taken from {out}", file=sys.stderr)
    return collection


def _shared(preset: presets.Preset) -> list[str]:
    return list(preset.table.get("records_from", []))


def keep(collection: Collection, path: Path) -> None:
    """Writes the records to the file `path`, unless other presets keep them (`table.records_from`)."""
    if not _shared(collection.preset):
        kept.write(collection.records, path)


def check_kept(folder: Path, collection: Collection) -> None:
    """Make `folder`; refuse one that cannot be made, or that keeps records that would be lost.

    Raises:
        ConfigError: with the sentence.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={folder}: cannot write there ({error.strerror}); give another folder") from error
    path = folder / KEPT
    lost = set(kept.read(path)) if path.is_file() else set()
    lost -= {record["key"] for record in collection.records}
    if lost:
        raise ConfigError(
            f"{path} keeps {len(lost)} records that this selection lacks: "
            "write it elsewhere with out=FOLDER, or delete that file"
        )


def command(argv: Sequence[str], module: str, make: Callable[[Collection, Path], None]) -> None:
    """Calls `make` with what the command line asks for and the folder for its files, which it creates.

    `argv` is NAME [results_dir=runs] [out=results], with the overrides that the preset was run with, if any. What
    the user got wrong ends in one sentence and exit code 1.
    """
    options = {"results_dir": str(DEFAULT), "out": str(OUT)}
    options |= dict(argument.split("=", 1) for argument in argv if argument.startswith(("results_dir=", "out=")))
    names = [argument for argument in argv if "=" not in argument]
    overrides = [a for a in argv if "=" in a and a.split("=", 1)[0] not in options]
    with in_one_sentence():
        if len(names) != 1 or names[0].startswith("-"):
            raise ConfigError(f"usage: python -m {module} NAME [results_dir=runs] [out=results], got {names}")
        out = Path(options["out"])
        collection = collect(names[0], Path(options["results_dir"]), out, overrides)
        folder = folder_of(out, names[0], collection.preset)
        check_kept(folder, collection)
        make(collection, folder)
