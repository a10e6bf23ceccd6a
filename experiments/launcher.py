"""The launcher `hydra/launcher=processes`: each job of a sweep in a process that may die without harm to the others."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from experiments.config import ConfigError
from experiments.signals import stop_sweep
from experiments.workers import Died, Pool, portable

NAME = "hydra_plugins.dlrt.ProcessLauncher"


def register() -> None:
    """Let Hydra find the launcher under NAME: it instantiates only plugins named hydra_plugins.* or its own."""
    Plugins.instance().class_name_to_class[NAME] = ProcessLauncher


class ProcessLauncher(Launcher):
    """Runs jobs in worker processes, which are used again: torch is imported, and data are read, once in each.

    Args:
        n_jobs: jobs at a time; -1: as many as there are cores.

    Raises:
        ConfigError: another number.
    """

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction

    def __init__(self, n_jobs: int = 1) -> None:
        if not isinstance(n_jobs, int) or (n_jobs < 1 and n_jobs != -1):
            raise ConfigError(f"hydra.launcher.n_jobs={n_jobs}: give at least 1, or -1 for one on every core")
        self.n_jobs = n_jobs if n_jobs > 0 else os.cpu_count() or 1
        self._pool: Pool | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """The results of all jobs; that of one whose process died has status FAILED and the error `Died`."""
        self._pool = self._pool or Pool(self.n_jobs)
        try:
            return self._run(self._pool, job_overrides, initial_job_idx)
        except BaseException:
            self._pool.stop()
            raise

    def close(self) -> None:
        """End the workers, which have nothing to do."""
        if self._pool is not None:
            self._pool.stop()

    def _config_of(self, number: int, overrides: Sequence[str]) -> DictConfig:
        """A job's config, composed here: Hydra's loader cannot be pickled."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        return config

    def _run(self, pool: Pool, jobs: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        waiting, results = deque(range(len(jobs))), dict[int, JobReturn]()
        while len(results) < len(jobs):
            while waiting and pool.idle:
                i = waiting.popleft()
                pool.start(
                    i, execute, self._config_of(first + i, jobs[i]), self.task_function, self.hydra_context.callbacks
                )
            for i, result in pool.ended(1.0):  # not for ever: a signal's handler runs in between
                failed = JobReturn(overrides=jobs[i], status=JobStatus.FAILED, _return_value=result)
                results[i] = failed if isinstance(result, Exception) else result
                if isinstance(result, Died) and self.config.get("on_error") == "raise":
                    stop_sweep(self.task_function.stop_file, f"on_error=raise: {result}")  # type: ignore[attr-defined]
        return [results[i] for i in range(len(jobs))]


def execute(config: DictConfig, task_function: TaskFunction, callbacks: Callbacks) -> JobReturn:
    """Do a job in this process, as Hydra's own launchers do."""
    version.setbase("1.3")
    setup_globals()
    HydraConfig.instance().set_config(config)
    done = run_job(
        hydra_context=HydraContext(None, callbacks),  # type: ignore[arg-type]
        config=config,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if done.status == JobStatus.FAILED:
        done._return_value = portable(done._return_value)
    return done
