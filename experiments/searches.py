"""The runs of a search: nobody knows their settings before it, so its preset names the keys that it varies.

table:
  searched: [tau, trainer.lr]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from experiments.kept import Layered
from experiments.presets import Preset
from experiments.records import key_of
from experiments.references import Cell


def searched(preset: Preset) -> list[str]:
    """The dotted config keys that the preset's search varies; none if it is no search."""
    return list(preset.table.get("searched", []))


def with_found(preset: Preset, store: Layered) -> Preset:
    """A search's preset with its recorded runs as cells, ordered by what varies; another preset as it is."""
    if not (keys := searched(preset)):
        return preset
    fixed = {_fixed(cell.config, keys) for cell in preset.cells}
    records = (record for key in sorted(recorded(store)) if (record := store.get(key)) is not None)
    found = [Cell(record["key"], record["config"], ()) for record in records if _fixed(record["config"], keys) in fixed]
    found.sort(key=lambda cell: [(value is not None, value or 0) for value in map(cell.value, keys)])
    return replace(preset, cells=found, planned=found)


def recorded(store: Layered) -> set[str]:
    """The keys of all runs in the store."""
    in_folder = {path.stem.rpartition("-")[2] for path in (store.folder / "records").glob("*.json")}
    return in_folder | set(store.kept) | set(store.lines or {})


def _fixed(config: dict[str, Any], keys: Iterable[str]) -> str:
    """The same text for configs that differ in the `keys` alone."""
    for key in keys:
        config = _without(config, key.split("."))
    return key_of(config)


def _without(config: dict[str, Any], key: list[str]) -> dict[str, Any]:
    first, *rest = key
    inner = config.get(first)
    return config | {first: _without(inner, rest) if rest and isinstance(inner, dict) else None}
