"""One benchmark: measure the cases that the config describes, record them, draw table and plot."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.benchmark import inputs, output, profile, store
from experiments.benchmark.cases import Case, groups
from experiments.benchmark.config import BenchmarkConfig
from experiments.benchmark.curves import deviation
from experiments.benchmark.expansion import expand
from experiments.benchmark.measure import measure
from experiments.command import in_one_sentence
from experiments.config import ConfigError
from experiments.data import Splits
from experiments.devices import device_of
from experiments.kept import portable
from experiments.provenance import device_name, provenance

RERUN = ("all", "missing")


def run(cfg: DictConfig) -> None:
    """Hydra's task. Raises SystemExit with one sentence if the config describes no possible benchmark."""
    with in_one_sentence(BenchmarkConfig):
        cases, device = checked(cfg)
    if device.type == "cpu" and cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    if cfg.profile:
        profile.show(cases, cfg.seed, device)
        return
    folder = Path(cfg.results_dir) / f"{cfg.name}-{device.type}"
    for group in groups(_missing(cases, folder, device) if cfg.rerun == "missing" else cases):
        _record(cfg, group, folder, device)
    output.write(folder, cfg)


def checked(cfg: DictConfig) -> tuple[list[Case], torch.device]:
    """The cases and their device. Raises ConfigError."""
    if cfg.rerun not in RERUN:
        raise ConfigError(f"rerun is {cfg.rerun!r}: use {' or '.join(RERUN)}")
    if cfg.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device is {cfg.device!r}: use auto, cpu or cuda")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: torch sees no CUDA device; use device=cpu")
    if (cfg.threads is not None and cfg.threads < 1) or (cfg.rounds is not None and cfg.rounds < 1):
        raise ConfigError(f"threads and rounds must be at least 1 or null, got {cfg.threads} and {cfg.rounds}")
    return expand(cfg), device_of(cfg.device)


def _record(cfg: DictConfig, group: list[Case], folder: Path, device: torch.device) -> None:
    print(f"{group[0].label}, batch {group[0].batch}: {len(group)} cases", file=sys.stderr, flush=True)
    data = inputs.images(group[0], cfg.seed, device)
    batches = inputs.batches(data, group[0].batch)
    origin = _origin(device, data)
    for case, measured in measure(group, batches, cfg.seed, cfg.seconds, cfg.rounds, device):
        if cfg.curve_steps:
            measured["curve"] = deviation(case, batches, cfg.curve_steps, cfg.seed, device)
        identity = {"schema": store.SCHEMA, "key": store.key(case, device_name(device), torch.get_num_threads())}
        store.append(folder, identity | {"case": case.config(), "measured": measured, "provenance": origin})


def _origin(device: torch.device, data: Splits) -> dict[str, Any]:
    command = shlex.join(portable(["python", "-m", "experiments.benchmark", *HydraConfig.get().overrides.task]))
    return provenance(device, [], sweep=False) | {"command": command, "data_source": data.source}


def _missing(cases: list[Case], folder: Path, device: torch.device) -> list[Case]:
    commit = provenance(device, [], sweep=False)["commit"]
    known = store.read(folder)
    keys = {key for key, record in known.items() if record["provenance"]["commit"] == commit}
    return [c for c in cases if store.key(c, device_name(device), torch.get_num_threads()) not in keys]
