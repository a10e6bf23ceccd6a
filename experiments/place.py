"""Where a run stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from experiments.config import ConfigError


@dataclass(frozen=True)
class Place:
    """Where a run stands: its own command line, whether it is part of a sweep, and whether others print beside it.

    `stop_file` is that of its sweep (see `signals`).
    """

    overrides: Sequence[str]
    sweep: bool
    parallel: bool
    stop_file: Path | None = None

    @classmethod
    def of_hydra(cls, stop_file: Path | None) -> "Place":
        """The place that Hydra has put this process's run in."""
        hydra: Any = HydraConfig.get()
        sweep = hydra.mode == RunMode.MULTIRUN
        alone = "BasicLauncher" in hydra.launcher._target_ or hydra.launcher.get("n_jobs") == 1
        return cls(hydra.overrides.task, sweep, sweep and not alone, stop_file)


def check_folder(hydra: Any) -> None:
    """Raise ConfigError if Hydra's config wants a working folder for each run."""
    if hydra.job.chdir:
        raise ConfigError("hydra.job.chdir=true: runs are found by what they are, not where; leave it out")
