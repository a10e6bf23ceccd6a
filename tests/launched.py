"""Sweeps of toy runs in a process of their own, as a user starts them, and what they leave."""

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from toy_runs import TOY, Net

TESTS = Path(__file__).parent
PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}


class Slow(Net):
    """A Net that takes $PAUSE seconds for a step."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            time.sleep(float(os.environ.get("PAUSE", "0")))
        return super().forward(x)


def sweep(launcher: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m experiments.run -m hydra/launcher=LAUNCHER TOY ARGUMENTS` in `folder`."""
    if find_spec(f"hydra_plugins.{PLUGINS[launcher]}") is None:
        pytest.skip(f"{PLUGINS[launcher]} is not installed here: `make test-launchers` has it")
    command = [sys.executable, "-m", "experiments.run", "-m", f"hydra/launcher={launcher}", *TOY, *arguments]
    paths = f"{TESTS.parent}{os.pathsep}{TESTS}"
    variables = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)


def wandb_run(file: Path) -> dict[str, Any]:
    """What W&B's own reader finds in an offline run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary", str(file)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found
