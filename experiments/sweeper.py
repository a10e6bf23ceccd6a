"""The sweeper: blocks of Cartesian products, cells that are recorded skipped, a summary in the end."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from experiments import presets
from experiments.compose import Compose, remembering
from experiments.presets import Axes, Draft
from experiments.records import Store, needs_training
from experiments.references import Cell, Reference, literal
from experiments.signals import passed_on
from experiments.summary import already, note_of, print_summary, unused
from experiments.validate import validate

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
GROUP_LENGTH = 128  # W&B's limit


def register() -> None:
    """Make `hydra/sweeper=basic`, the default, the sweeper below; other sweepers stay available."""
    # Hydra instantiates only plugins named hydra_plugins.* or its own: this one goes by the name of what it replaces.
    Plugins.instance().class_name_to_class[BASIC] = BlockSweeper


class BlockSweeper(Sweeper):
    """Checks every cell of a sweep, then runs block after block on any launcher, and ends with a summary.

    Args:
        max_batch_size: so many cells go to the launcher at a time; None: a whole block.
        params: overrides of every cell, by key (`hydra.sweeper.params`).
    """

    config: DictConfig
    launcher: Launcher
    hydra_context: HydraContext

    def __init__(self, max_batch_size: int | None, params: Mapping[str, str] | None = None) -> None:
        self.max_batch_size = max_batch_size
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Raises ConfigError before anything is trained; SystemExit(1) in the end if a run failed."""
        parser = OverridesParser.create(self.hydra_context.config_loader)
        given = presets.axes([*self.params, *arguments], parser)
        given.setdefault("logger.group", [f"logger.group={literal(group_of(given))}"])
        plan = presets.plan(self._compose, given)
        cfg, blocks = plan.cfg, plan.blocks
        check(blocks, self._validated)
        store, cells, trained, reasons = Store(cfg.results_dir), list[Cell](), set[str](), list[str]()
        for drafts in blocks:
            settled, unsettled = presets.settle(drafts, cells, store, self._validated)
            fresh = presets.unique([*cells, *settled])[len(cells) :]
            if len(fresh) < len(settled):
                print(f"{len(settled) - len(fresh)} of {len(settled)} runs repeat others of this sweep: left out")
            trained |= self._launch(fresh, store, cfg.rerun, len(cells))
            cells += fresh
            reasons += unsettled
        report(cells, reasons, trained, store)

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

    def _launch(self, cells: Sequence[Cell], store: Store, rerun: str, start: int) -> set[str]:
        """Run the cells that are not recorded; returns their keys."""
        todo = []
        for cell in cells:
            record = store.get(cell.key)
            if record is None or needs_training(record, rerun):
                todo.append(cell)
            else:
                print(already(record), flush=True)
        jobs = [list(cell.overrides) for cell in todo]
        size = self.max_batch_size or len(jobs)
        for i in range(0, len(jobs), max(1, size)):
            with passed_on():
                results = self.launcher.launch(jobs[i : i + size], initial_job_idx=start + i)
            for result in results:
                _ = result.return_value  # raises what the job did not expect: a bug
        return {cell.key for cell in todo}


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


def report(cells: Sequence[Cell], reasons: Sequence[str], trained: set[str], store: Store) -> None:
    """Print the summary; raise SystemExit(1) if a run failed or could not be started."""
    records = [store.get(cell.key) for cell in cells]
    notes = [note_of(record, cell.key in trained) for cell, record in zip(cells, records, strict=True)]
    rows = [(c.name, c.key, record, note) for c, record, note in zip(cells, records, notes, strict=True)]
    print_summary([*rows, *(("", "", None, reason) for reason in reasons)])
    failed = sum(record is None or record["status"] in ("failed", "preempted") for record in records)
    if failed or reasons:
        print(f"{failed} of {len(cells)} runs failed and {len(reasons)} could not be started", flush=True)
        raise SystemExit(1)
