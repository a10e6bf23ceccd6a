"""Sweeps as blocks: each block is a Cartesian product of values, and the blocks run in order.

A preset (conf/experiment/NAME.yaml) gives `blocks`, a list of mappings from config keys to a value or a list of values,
or a mapping from protocols to such lists, of which `protocol` picks one. The command line's values take the place of a
block's for the same key, the budget's that of both where the command line says nothing; without a preset they are the
only block. What a budget means for a preset beyond its own values stands in the preset's `budgets`, by the budget's
name. Seeds are innermost. A value may be taken from the records of earlier blocks (see `references`):

    rank: {from: {integrator: abc_psi, tau: same}, take: mean_rank}
    weights: {from: {integrator: dense, seed: same}, take: weights}
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from experiments.compose import Compose, hydra_compose_cell, remembering
from experiments.config import CONF, ConfigError
from experiments.explain import explain
from experiments.importing import did_you_mean
from experiments.records import Store, identity, key_of
from experiments.references import Cell, RecordOf, Reference, Unresolved, literal

Draft = dict[str, str | Reference]  # one cell: the override of each key, or where its value comes from
Axes = dict[str, list[str]]  # overrides by key, e.g. {"tau": ["tau=0.05", "tau=0.1"]}
LARGEST = 100_000  # runs of a sweep
ONE_AT_A_TIME = ("experiment", "protocol", "budget", "results_dir")


@dataclass(frozen=True)
class Preset:
    """A preset's cells so far: `unresolved` counts those whose values the records cannot give yet.

    `planned` are the cells as the blocks give them, `cells` those without repeats: runs of one fixed rank that comes
    from several τ, say, are one run.
    """

    name: str
    title: str
    cells: list[Cell]
    table: dict[str, Any]
    figures: list[str]
    unresolved: int
    protocol: str | None = None
    budget: str = "full"
    planned: Sequence[Cell] = ()


@dataclass(frozen=True)
class Plan:
    """What a command line asks for: the config of what does not vary, and the drafts of each block in running order."""

    cfg: DictConfig
    blocks: list[list[Draft]]


def load(name: str, overrides: Sequence[str] = (), store: Store | None = None) -> Preset:
    """The preset `name` with a command line's `overrides`; values taken from records are looked up in `store`.

    The default is the store in its results_dir.

    Raises:
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: no such preset, or one that does not
            compose.
    """
    given = axes([f"experiment={name}", *overrides])
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        compose = remembering(hydra_compose_cell)
        asked = plan(compose, given)
        cfg = asked.cfg
        cells, unresolved = known(asked.blocks, store or Store(cfg.results_dir), compose)
    table: dict[str, Any] = OmegaConf.to_container(cfg.table)  # type: ignore[assignment]
    table = {key: by_protocol(value, cfg.protocol) for key, value in table.items()}
    figures = list(cfg.figures)
    return Preset(name, cfg.title, unique(cells), table, figures, unresolved, cfg.protocol, cfg.budget.name, cells)


def by_protocol(value: Any, protocol: str | None) -> Any:
    """What a preset's table has for the protocol: a mapping from protocols has one value for each."""
    return value[protocol] if isinstance(value, dict) and protocol in value else value


def plan(compose: Compose, given: Axes) -> Plan:
    """The blocks that the overrides `given` ask for, the budget's values standing in their drafts.

    Raises:
        ConfigError: two presets, protocols or budgets; a protocol that the preset does not have; a budget with a key
            that there is not.
    """
    for key in ONE_AT_A_TIME:
        if len(given.get(key, [])) > 1:
            raise ConfigError(f"{', '.join(given[key])}: give one {key.replace('experiment', 'preset')} at a time")
    fixed = [values[0] for values in given.values() if len(values) == 1]
    cfg = compose(fixed)
    general, own = (OmegaConf.to_container(node) for node in (cfg.budget.overrides, cfg.budgets))
    chosen: dict[str, Any] = general | own.get(cfg.budget.name, {})  # type: ignore[union-attr]
    budget = {key: [f"{key}={literal(value)}"] for key, value in chosen.items()}
    try:
        compose([*fixed, *(values[0] for values in budget.values())])
    except HydraException as error:
        raise ConfigError(f"budget={cfg.budget.name}: {explain(error)}") from error
    values = {key: overrides for key, overrides in given.items() if key != "budget"}
    return Plan(cfg, [_drafts(block, budget | values) for block in blocks_of(cfg)])


def axes(arguments: Sequence[str], parser: OverridesParser | None = None) -> Axes:
    """A command line's overrides by key, each sweep expanded.

    Raises:
        hydra.errors.OverrideParseException: an argument is no override.
        ConfigError: a sweep without a finite list of values, or with too many runs.
    """
    found: Axes = {}
    for override in (parser or OverridesParser.create()).parse_overrides(list(arguments)):
        if not override.is_sweep_override():
            found[override.key_or_group] = [str(override.input_line)]
        elif override.is_discrete_sweep():
            element = override.get_key_element()
            values = itertools.islice(override.sweep_string_iterator(), LARGEST + 1)  # a range may have any length
            found[override.key_or_group] = [f"{element}={v}" for v in values]
            if not found[override.key_or_group]:
                raise ConfigError(f"{override.input_line}: there is no such value; give at least one")
        else:
            raise ConfigError(f"{override.input_line}: a sweep needs its values one by one, as in a=1,2")
    if math.prod(map(len, found.values())) > LARGEST:
        raise ConfigError(f"{' '.join(arguments)}: more than {LARGEST} runs; give fewer values")
    return found


def blocks_of(cfg: DictConfig) -> list[dict[str, Any]]:
    """The blocks of the protocol that `cfg` picks; without a preset, one empty block.

    Raises:
        ConfigError: the preset does not have the protocol, or blocks of another form.
    """
    blocks: Any = OmegaConf.to_container(cfg)["blocks"] or []  # type: ignore[index,call-overload]
    if isinstance(blocks, dict):
        if cfg.protocol not in blocks:
            hint = did_you_mean(cfg.protocol, list(blocks)) if cfg.protocol else ""
            raise ConfigError(f"protocol={literal(cfg.protocol)}: {hint}choose one of {', '.join(blocks)}")
        blocks = blocks[cfg.protocol]
    elif cfg.protocol is not None:
        raise ConfigError(f"protocol={cfg.protocol}: there are no protocols to choose from here; leave it out")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise ConfigError(f"blocks={blocks}: give a list of mappings from keys to values, or one such list by protocol")
    return blocks or [{}]


def _drafts(block: Mapping[str, Any], given: Axes) -> list[Draft]:
    values: dict[str, Sequence[str | Reference]] = {}
    for key, value in block.items():
        entries = value if isinstance(value, list) else [value]
        if not entries:
            raise ConfigError(f"blocks: {key} has no value: write [[]] where the empty list is the value")
        values[key] = [Reference.of(key, e) if isinstance(e, dict) else f"{key}={literal(e)}" for e in entries]
    values.update(given)
    order = sorted(values, key=lambda key: (key == "seed") - (key == "experiment"))  # stable; the last varies first
    return [dict(zip(order, row, strict=True)) for row in itertools.product(*(values[key] for key in order))]


def settle(
    drafts: Sequence[Draft], earlier: Sequence[Cell], store: Store, compose: Compose
) -> tuple[list[Cell], list[str]]:
    """A block's cells, and the reasons why others cannot be: what they take from records is missing or impossible."""
    cells, reasons, record_of = [], [], cache(store.get)
    for draft in drafts:
        try:
            cells.append(_cell(draft, earlier, record_of, compose))
        except (Unresolved, ConfigError) as reason:
            reasons.append(str(reason))
    return cells, reasons


def known(blocks: Sequence[Sequence[Draft]], store: Store, compose: Compose) -> tuple[list[Cell], int]:
    """The cells of all blocks that can be now, and the number of those whose values the records cannot give yet."""
    cells, unresolved = list[Cell](), 0
    for drafts in blocks:
        settled, waiting = settle(drafts, unique(cells), store, compose)
        cells += settled
        unresolved += len(waiting)
    return cells, unresolved


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


def _cell(draft: Draft, earlier: Sequence[Cell], record_of: RecordOf, compose: Compose) -> Cell:
    overrides = [value for value in draft.values() if isinstance(value, str)]
    cell = _named(overrides, compose)
    taken = [value.resolve(cell, earlier, record_of) for value in draft.values() if isinstance(value, Reference)]
    return _named([*overrides, *taken], compose) if taken else cell


def _named(overrides: list[str], compose: Compose) -> Cell:
    cfg = compose(overrides)
    config = identity(cfg)
    ignored = {key: cfg[key] for key in config if config[key] is None and not OmegaConf.is_config(cfg[key])}
    return Cell(key_of(config), config, tuple(overrides), ignored)
