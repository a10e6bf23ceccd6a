"""Optuna's search as a sweep: hydra/sweeper=optuna. Each trial is a cell; the records say how good it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from experiments import presets, sweeps
from experiments.config import ConfigError
from experiments.jobs import Jobs
from experiments.objective import check_objective, front, objective
from experiments.presets import Draft
from experiments.records import Store
from experiments.references import Cell, literal
from experiments.search_space import Space, corners, distribution_of, draft_of
from experiments.study import Study
from experiments.summary import unused
from experiments.sweeper import BlockSweeper, needing, report

PACKAGE = "hydra_plugins.hydra_optuna_sweeper"


def register() -> None:
    """Make `hydra/sweeper=optuna` the sweeper below, with its config in conf/."""
    # By the name of what it replaces, as Hydra instantiates only plugins named hydra_plugins.* or its own.
    Plugins.instance().class_name_to_class[f"{PACKAGE}.optuna_sweeper.OptunaSweeper"] = StudySweeper
    # Hydra would take the plugin's own config for the schema of ours, which has other keys.
    ConfigStore.instance().repo["hydra"].get("sweeper", {}).pop("optuna.yaml", None)


class StudySweeper(BlockSweeper):
    """Trains what Optuna suggests, on any launcher, and ends with the best runs and a summary.

    Args:
        sampler: which of Optuna's; `sampler_options` are its keywords, `seed` its seed.
        n_trials: how many trials, those that are recorded among them.
        n_jobs: so many trials are suggested at a time.
        params: overrides of every trial and the search space, by key, unless the command line gives the key.
    """

    def __init__(
        self, sampler: str, sampler_options: Mapping[str, Any], seed: int, n_trials: int, n_jobs: int,
        params: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(n_jobs, params)
        self.sampler, self.options, self.seed = sampler, dict(sampler_options), seed
        self.n_trials, self.n_jobs = n_trials, n_jobs

    def sweep(self, arguments: list[str]) -> None:
        """Raises ConfigError before anything is trained; SystemExit in the end if a run failed or a signal came."""
        self._check()
        plan, space = self._planned([*self.params, *arguments])
        check_objective(plan.cfg)
        base, keys, store = plan.blocks[0][0], list(plan.cfg.objective), Store(plan.cfg.results_dir)
        study = Study(keys, self.sampler, self.options, self.seed)
        self._rehearse(base, space)
        cells: list[Cell] = []
        with Jobs(self.hydra_context, self.task_function, self.config, store, self.n_jobs) as jobs:
            for start in range(0, self.n_trials, self.n_jobs):
                end = min(start + self.n_jobs, self.n_trials)
                trials = [study.ask(number, space) for number in range(start, end)]
                asked = [self._cell(base | draft_of(trial.params, space)) for trial in trials]
                fresh = presets.unique([*cells, *asked])[len(cells) :]
                cells += fresh
                sweeps.write(store.folder, plan.cfg.logger.group, arguments, cells, self.n_trials - end)
                jobs.run(needing(fresh, store, plan.cfg.rerun))
                if jobs.stopped:
                    break
                for trial, cell in zip(trials, asked, strict=True):
                    study.tell(trial, store.get(cell.key))
            print_front(cells, store, keys, list(space))
            report(cells, [], jobs, store)

    def _check(self) -> None:
        if importlib.util.find_spec(PACKAGE) is None:
            raise ConfigError("hydra/sweeper=optuna: its plugin is not installed; pip install -e '.[optuna]'")
        for key, value in {"n_trials": self.n_trials, "n_jobs": self.n_jobs}.items():
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"hydra.sweeper.{key}={value}: give a whole number of at least 1")

    def _planned(self, arguments: Sequence[str]) -> tuple[presets.Plan, Space]:
        """The plan of what is fixed, and the distributions of what is not; of two values of a key the later counts."""
        parser = OverridesParser.create(self.hydra_context.config_loader)
        given = {override.key_or_group: override for override in parser.parse_overrides(list(arguments))}
        space = {o.get_key_element(): distribution_of(o) for o in given.values() if o.is_sweep_override()}
        if not space:
            raise ConfigError("hydra/sweeper=optuna has nothing to search: give a range, 'tau=interval(0.05, 0.2)'")
        fixed = {key: [str(o.input_line)] for key, o in given.items() if not o.is_sweep_override()}
        name = fixed["experiment"][0].partition("=")[2] if "experiment" in fixed else f"search over {', '.join(space)}"
        fixed.setdefault("logger.group", [f"logger.group={literal(name)}"])
        plan = presets.plan(self._compose, fixed)
        if plan.cfg.blocks:
            raise ConfigError(f"experiment={name} is a sweep of its own: leave out hydra/sweeper=optuna")
        return plan, space

    def _rehearse(self, base: Draft, space: Space) -> None:
        """Compose the corners of the space (an impossible one raises) and say which given keys mean nothing there."""
        configs = [self._cell(base | draft).config for draft in corners(space)]
        for note in dict.fromkeys(note for config in configs for note in unused(config, {*base, *space})):
            print(note)

    def _cell(self, draft: Draft) -> Cell:
        return presets.provisional(draft, [], self._validated)


def print_front(cells: Sequence[Cell], store: Store, keys: Sequence[str], searched: Sequence[str]) -> None:
    """Print the runs that no other one beats in the figures `keys`."""
    found = [(values, cell) for cell in cells if (values := objective(store.get(cell.key), keys)) is not None]
    best = [found[i] for i in front([values for values, _ in found])]
    print(f"best in {' and '.join(keys)}: {len(best)} of {len(found)} runs", flush=True)
    for values, cell in sorted(best, key=lambda pair: pair[0]):
        where = " ".join(f"{key.lstrip('+')}={cell.value(key.lstrip('+'))}" for key in searched)
        reached = " ".join(f"{key}={value:.4g}" for key, value in zip(keys, values, strict=True))
        print(f"  {where}: {reached} (key {cell.key})", flush=True)
