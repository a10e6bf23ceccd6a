"""Sweeps as blocks: each block is a Cartesian product of values, and the blocks run in order.

A preset (conf/experiment/NAME.yaml) gives `blocks`, a list of mappings from config keys to a value or a list of values.
The command line's values take the place of a block's for the same key; without a preset they are the only block. Seeds
are innermost. A value may be taken from the records of earlier blocks (see `references`):

    rank: {from: {integrator: abc_psi, tau: 0.1}, take: mean_rank}
    weights: {from: {integrator: dense, seed: same}, take: weights}
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from experiments.config import CONF, ConfigError
from experiments.records import Store, identity, key_of
from experiments.references import Cell, Reference, Unresolved, literal

Compose = Callable[[list[str]], DictConfig]
Draft = dict[str, str | Reference]  # one cell: the override of each key, or where its value comes from
Axes = dict[str, list[str]]  # overrides by key, e.g. {"tau": ["tau=0.05", "tau=0.1"]}


@dataclass(frozen=True)
class Preset:
    """A preset's cells so far: `unresolved` counts those whose values the records cannot give yet."""

    name: str
    title: str
    cells: list[Cell]
    table: dict[str, Any]
    figures: list[str]
    unresolved: int


def load(name: str, overrides: Sequence[str] = ()) -> Preset:
    """The preset `name` with a command line's `overrides`; values taken from records are looked up in its results_dir.

    Raises:
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: no such preset, or one that does not
            compose.
    """
    given = axes([f"experiment={name}", *overrides])
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose_fixed(hydra_compose_cell, given)
        cells: list[Cell] = []
        unresolved = 0
        for drafts in drafts_of(cfg, given):
            resolved, waiting = settle(drafts, cells, Store(cfg.results_dir), hydra_compose_cell)
            cells += resolved
            unresolved += len(waiting)
    table: dict[str, Any] = OmegaConf.to_container(cfg.table)  # type: ignore[assignment]
    return Preset(name, cfg.title, unique(cells), table, list(cfg.figures), unresolved)


def hydra_compose_cell(overrides: list[str]) -> DictConfig:
    """Compose one cell outside a run of Hydra."""
    return hydra_compose("config", overrides)


def axes(arguments: Sequence[str], parser: OverridesParser | None = None) -> Axes:
    """A command line's overrides by key, each sweep expanded.

    Raises:
        hydra.errors.OverrideParseException: an argument is no override.
        ConfigError: a sweep without a finite list of values.
    """
    found: Axes = {}
    for override in (parser or OverridesParser.create()).parse_overrides(list(arguments)):
        if not override.is_sweep_override():
            found[override.key_or_group] = [str(override.input_line)]
        elif override.is_discrete_sweep():
            element = override.get_key_element()
            found[override.key_or_group] = [f"{element}={v}" for v in override.sweep_string_iterator()]
        else:
            raise ConfigError(f"{override.input_line}: a sweep needs its values one by one, as in a=1,2")
    return found


def compose_fixed(compose: Compose, given: Axes) -> DictConfig:
    """The config of the overrides that do not vary: where a preset's blocks are found."""
    if len(given.get("experiment", [])) > 1:
        raise ConfigError(f"{', '.join(given['experiment'])}: give one preset at a time")
    return compose([values[0] for values in given.values() if len(values) == 1])


def drafts_of(cfg: DictConfig, given: Axes) -> list[list[Draft]]:
    """The drafts of each block of `cfg`, in running order."""
    blocks: list[dict[str, Any]] = OmegaConf.to_container(cfg.blocks) or [{}]  # type: ignore[assignment]
    return [_drafts(block, given) for block in blocks]


def _drafts(block: Mapping[str, Any], given: Axes) -> list[Draft]:
    values: dict[str, Sequence[str | Reference]] = {}
    for key, value in block.items():
        entries = value if isinstance(value, list) else [value]
        values[key] = [Reference.of(key, e) if isinstance(e, dict) else f"{key}={literal(e)}" for e in entries]
    values.update(given)
    order = sorted(values, key=lambda key: (key == "seed") - (key == "experiment"))  # stable; the last varies first
    return [dict(zip(order, row, strict=True)) for row in itertools.product(*(values[key] for key in order))]


def settle(
    drafts: Sequence[Draft], earlier: Sequence[Cell], store: Store, compose: Compose
) -> tuple[list[Cell], list[str]]:
    """A block's cells, and the reasons why others cannot be: what they take from records is missing or impossible."""
    cells, reasons = [], []
    for draft in drafts:
        try:
            cells.append(_cell(draft, earlier, store, compose))
        except (Unresolved, ConfigError) as reason:
            reasons.append(str(reason))
    return cells, reasons


def provisional(draft: Draft, earlier: Sequence[Cell], compose: Compose) -> Cell:
    """A cell before any record exists, each referenced value left at its default.

    Raises:
        ConfigError: no earlier cell can serve a reference.
    """
    cell = _named([value for value in draft.values() if isinstance(value, str)], compose)
    for value in draft.values():
        if isinstance(value, Reference):
            value.check(cell, earlier)
    return cell


def unique(cells: Sequence[Cell]) -> list[Cell]:
    """The cells without those that repeat an earlier one's key."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(cell.key, cell)
    return list(found.values())


def _cell(draft: Draft, earlier: Sequence[Cell], store: Store, compose: Compose) -> Cell:
    overrides = [value for value in draft.values() if isinstance(value, str)]
    cell = _named(overrides, compose)
    taken = [value.resolve(cell, earlier, store) for value in draft.values() if isinstance(value, Reference)]
    return _named([*overrides, *taken], compose) if taken else cell


def _named(overrides: list[str], compose: Compose) -> Cell:
    config = identity(compose(overrides))
    return Cell(key_of(config), config, tuple(overrides))
