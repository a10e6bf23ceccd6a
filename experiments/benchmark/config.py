"""The typed schema of `python -m experiments.benchmark`; conf/benchmark.yaml says what each key does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class CaseConfig:
    """Values that replace those of a preset's blocks; a list stands for several, None leaves the blocks' own."""

    model: Any = None
    integrator: Any = None
    width: Any = None
    image_size: Any = None
    rank: Any = None
    batch: Any = None
    precision: Any = None
    inner_steps: Any = None


@dataclass
class BenchmarkConfig:
    """A preset's cases, what replaces their values, and where and how they are measured."""

    name: str = MISSING
    title: str = MISSING
    blocks: list[dict[str, Any]] = MISSING
    targets: list[dict[str, Any]] = field(default_factory=list)
    case: CaseConfig = field(default_factory=CaseConfig)
    device: str = MISSING
    threads: int | None = MISSING
    seed: int = MISSING
    rounds: int | None = None
    seconds: float = MISSING
    curve_steps: int = MISSING
    growth: bool = MISSING
    profile: bool = MISSING
    rerun: str = MISSING
    results_dir: str = MISSING


ConfigStore.instance().store(name="benchmark_schema", node=BenchmarkConfig)
