"""The sweeper: blocks of Cartesian products, cells that are recorded skipped, a summary in the end."""

import signal
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from experiments import launcher, launchers, presets, sweeps
from experiments.compose import Compose, remembering
from experiments.config import ConfigError
from experiments.jobs import Jobs, Task
from experiments.place import check_folder
from experiments.presets import Axes, Draft
from experiments.records import Store, needs_training
from experiments.references import Cell, Reference, literal
from experiments.summary import already, print_summary, unused
from experiments.validate import validate

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
GROUP_LENGTH = 128  # W&B's limit
FAILED, LEFT = ("failed", "killed"), ("preempted", "not run")


def register() -> None:
    """Make `hydra/sweeper=basic`, the default, the sweeper below, and let Hydra find the launchers."""
    # Hydra instantiates only plugins named hydra_plugins.* or its own: this one goes by the name of what it replaces.
    Plugins.instance().class_name_to_class[BASIC] = BlockSweeper
    launcher.register()
    launchers.register()


class BlockSweeper(Sweeper):
    """Checks every cell of a sweep, then runs block after block on any launcher, and ends with a summary.

    Args:
        max_batch_size: so many cells go to the launcher at a time; None: a whole block.
        params: overrides of every cell, by key (`hydra.sweeper.params`).
    """

    config: DictConfig
    task_function: Task
    hydra_context: HydraContext

    def __init__(self, max_batch_size: int | None, params: Mapping[str, str] | None = None) -> None:
        self.max_batch_size = max_batch_size
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]

    def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def sweep(self, arguments: list[str]) -> None:
        """Raises ConfigError before anything is trained; SystemExit(1) in the end if a run failed."""
        check_folder(self.config.hydra)
        if self.max_batch_size is not None and self.max_batch_size < 0:
            raise ConfigError(f"hydra.sweeper.max_batch_size={self.max_batch_size}: give at least 1, or null")
        parser = OverridesParser.create(self.hydra_context.config_loader)
        given = presets.axes([*self.params, *arguments], parser)
        given.setdefault("logger.group", [f"logger.group={literal(group_of(given))}"])
        plan = presets.plan(self._compose, given)
        cfg, blocks = plan.cfg, plan.blocks
        check(blocks, self._validated)
        store, cells, reasons = Store(cfg.results_dir), list[Cell](), list[str]()
        planned, waiting = presets.known(blocks, store, self._compose)
        for cell in planned:
            store.get(cell.key)  # a file that is no record is a mistake, too
        name = cfg.logger.group or group_of(given)
        asked = [*(line for line in self.config.hydra.overrides.hydra if line != "hydra.mode=MULTIRUN"), *arguments]
        with Jobs(self.hydra_context, self.task_function, self.config, store, self.max_batch_size) as jobs:
            for drafts in blocks:
                if waiting:
                    planned, waiting = presets.known(blocks, store, self._compose)
                sweeps.write(store.folder, name, asked, presets.unique(planned), waiting)
                settled, unsettled = presets.settle(drafts, cells, store, self._validated)
                fresh = presets.unique([*cells, *settled])[len(cells) :]
                if len(fresh) < len(settled):
                    print(f"{len(settled) - len(fresh)} of {len(settled)} runs repeat others of this sweep: left out")
                cells += fresh
                reasons += unsettled
                jobs.run(needing(fresh, store, cfg.rerun))
                if jobs.stopped:
                    break
            report(cells, reasons, jobs, store)

    @cached_property
    def _compose(self) -> Compose:
        return remembering(self._hydra_compose)

    def _hydra_compose(self, overrides: list[str]) -> DictConfig:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    def _validated(self, overrides: list[str]) -> DictConfig:
        cfg = self._compose(overrides)
        validate(cfg)
        return cfg


def needing(cells: Sequence[Cell], store: Store, rerun: str) -> list[Cell]:
    """The cells that are to be trained under `rerun`; says which are recorded already."""
    todo = []
    for cell in cells:
        record = store.get(cell.key)
        if record is None or needs_training(record, rerun):
            todo.append(cell)
        else:
            print(already(record), flush=True)
    return todo


def group_of(given: Axes) -> str:
    """The sweep's name in W&B: its preset's, else what it varies."""
    if "experiment" in given:
        return given["experiment"][0].partition("=")[2]
    varied = (
        f"{key}={','.join(value.partition('=')[2] for value in values)}"
        for key, values in given.items()
        if len(values) > 1
    )
    return " ".join(varied)[:GROUP_LENGTH] or "sweep"


def check(blocks: Sequence[Sequence[Draft]], compose: Compose) -> None:
    """Compose every cell (an impossible one raises) and say once which of the given keys an integrator ignores."""
    earlier: list[Cell] = []
    notes: dict[str, None] = {}
    for drafts in blocks:
        block = []
        for draft in drafts:
            cell = presets.provisional(draft, earlier, compose)
            meant = {key for value in draft.values() if isinstance(value, Reference) for key in value.same}
            notes |= dict.fromkeys(unused(cell.config, draft.keys() - meant))
            block.append(cell)
        earlier += block
    for note in notes:
        print(note)


def report(cells: Sequence[Cell], reasons: Sequence[str], jobs: Jobs, store: Store) -> None:
    """Print the summary; raise SystemExit(1) if a run is not over, another code after a signal."""
    ends = [jobs.end_of(cell) for cell in cells]
    rows = [(cell.name, cell.key, *end) for cell, end in zip(cells, ends, strict=True)]
    print_summary([*rows, *(("", "", "not run", None, reason) for reason in reasons)])
    for cell, (state, _, _) in zip(cells, ends, strict=True):
        if state in FAILED and (path := store.log_path(cell.config)).exists():
            print(f"{cell.name} [{cell.key[:4]}]: see {path}")
    failed = sum(state in FAILED for state, _, _ in ends)
    left = sum(state in LEFT for state, _, _ in ends)
    if failed or left or reasons:
        others = f" and {len(reasons)} could not be started" if reasons else ""
        print(f"{failed} of {len(cells)} runs failed, {left} are left{others}; the same command goes on", flush=True)
    if jobs.stopped:
        print(f"the sweep was stopped by {jobs.stopped}", flush=True)
    if jobs.stopped in signal.Signals.__members__:
        raise SystemExit(128 + signal.Signals[jobs.stopped])
    if failed or left or reasons:
        raise SystemExit(1)
