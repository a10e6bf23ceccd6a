"""The typed schema behind conf/: which keys exist, and their types. The values' rules are in `validate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

CONF = Path(__file__).resolve().parents[1] / "conf"

# What cannot change a run's result, and so is no part of the run's identity.
INCIDENTAL = frozenset(
    {"results_dir", "rerun", "on_error", "checkpoint_seconds", "objective", "logger", "device", "threads"}
    | {"protocol", "budget", "title", "blocks", "budgets", "table", "figures"}
)
MACHINE = frozenset({"device", "threads"})  # incidental to a training, not to a measurement of time

# Options that came after the first records, by dotted key, with the value at which a run is what it was before them:
# the hash of a run leaves them out there, so that every record keeps its key.
NEUTRAL = {
    "adapters": None,
    "model.weights": None,
    "data.source": None,
    "data.root": None,
    "trainer.accumulate": 1,
    "trainer.precision": "fp32",
    "integrator.rank_budget": None,
    "integrator.base_lr": None,
}


@dataclass
class IntegratorConfig:
    """Registry key and constructor keywords of an integrator of `dlrt`, which documents them."""

    name: str = MISSING
    min_rank: int = 1
    max_rank: int | None = None
    rank_budget: int | None = None
    base_lr: float | None = None
    optimizer: str = "sgd"
    transport: str = "project"
    decay: float = 0.0
    inner_steps: int = 1
    max_grad_norm: float | None = None


@dataclass
class AdaptersConfig:
    """Arguments of `dlrt.add_adapters`, which documents them; the rank is the run's, the method its integrator's."""

    name: str = MISSING
    targets: list[str] = MISSING
    trainable: list[str] = MISSING
    alpha: float | None = None


@dataclass
class ModelConfig:
    """A callable "package.module:Name" that returns an nn.Module; `skip`: patterns of layers that stay dense.

    `weights` other than null are given to the callable: where the weights of a pretrained model come from.
    """

    name: str = MISSING
    target: str = MISSING
    kwargs: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    skip: list[str] = field(default_factory=list)


@dataclass
class DataConfig:
    """A callable "package.module:Name" that returns the data's splits, given `source` and `root` if not null."""

    name: str = MISSING
    target: str = MISSING
    kwargs: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    root: str | None = None


@dataclass
class TrainerConfig:
    """Length, learning rate and evaluation of a training; conf/trainer/default.yaml says what each key does."""

    epochs: int = MISSING
    batch_size: int = MISSING
    accumulate: int = MISSING
    precision: str = MISSING
    lr: float = MISSING
    schedule: str = MISSING
    warmup_steps: int = MISSING
    gamma: float = MISSING
    label_smoothing: float = MISSING
    fixed_rank_epochs: int = MISSING
    select: str = MISSING
    select_last: float = MISSING
    eval_batch_size: int = MISSING
    collapse_epoch: int | None = MISSING
    collapse_accuracy: float = MISSING


@dataclass
class TimingConfig:
    """What the tasks that measure time measure; conf/config.yaml says what each key does."""

    repeats: int = MISSING
    warmup: int = MISSING
    reference_every: int = MISSING
    images: int = MISSING


@dataclass
class BudgetConfig:
    """Values, by dotted key, that a sweep takes as if its command line gave them."""

    name: str = MISSING
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class LoggerConfig:
    """Arguments of `experiments.loggers.make_logger`; `group` is set by a sweep."""

    name: str = MISSING
    mode: str | None = None
    project: str = "dlrt"
    entity: str | None = None
    dir: str | None = None
    group: str | None = None


@dataclass
class Config:
    """One run; protocol and budget belong to sweeps and the last five keys to presets (see `presets`)."""

    integrator: IntegratorConfig = field(default_factory=IntegratorConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    adapters: AdaptersConfig | None = None
    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    task: str = MISSING
    timing: TimingConfig = field(default_factory=TimingConfig)
    tau: float | None = MISSING
    rank: int = MISSING
    init: str = MISSING
    gain: float = MISSING
    weights: str | None = MISSING
    seed: int = MISSING
    device: str = MISSING
    threads: int | None = MISSING
    results_dir: str = MISSING
    rerun: str = MISSING
    on_error: str = MISSING
    checkpoint_seconds: float = MISSING
    objective: list[str] = MISSING
    protocol: str | None = MISSING
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    title: str = ""
    blocks: Any = None  # a list of mappings, or one such list per protocol
    budgets: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name, what a budget overrides besides its own
    table: dict[str, Any] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)


ConfigStore.instance().store(name="schema", node=Config)


class ConfigError(ValueError):
    """A config that describes no possible run; its text is the one sentence the user reads."""
