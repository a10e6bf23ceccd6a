"""Where a record comes from: commit, versions, machine and command.

A copy of the project without its git folder takes the commit from the environment variable DLRT_COMMIT; whether the
copy is that commit's is then unknown.
"""

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import dlrt

PACKAGES = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "wandb")
CODE = ("dlrt", "experiments", "conf", "pyproject.toml")  # what a result depends on
ROOT = Path(__file__).resolve().parents[1]


def provenance(device: torch.device, overrides: Sequence[str], sweep: bool) -> dict[str, Any]:
    """The record's "provenance"; `overrides` are the run's own, so that the command repeats this one run.

    The data's source is filled in when they are loaded.
    """
    command = ["python", "-m", "experiments.run", *(["-m"] if sweep else []), *overrides]
    return {
        "commit": _git("rev-parse", "HEAD") or os.environ.get("DLRT_COMMIT"),
        "dirty": _dirty(),
        "versions": {"python": platform.python_version(), "dlrt": dlrt.__version__} | _versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "command": shlex.join(command),
        "data_source": None,
    }


def device_name(device: torch.device) -> str:
    """E.g. "cpu: <processor>" or "cuda: NVIDIA A100"."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _dirty() -> bool | None:
    status = _git("status", "--porcelain", "--", *CODE)
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    """Output of git in the project's folder; None where that is no git checkout or has no commit."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
