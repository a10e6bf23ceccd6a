"""Rules for the values of a run's config: each gives pairs of whether it holds and the sentence that is said if not."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

import dlrt
from dlrt.factors import INITS
from experiments import build
from experiments.config import CONF, Config
from experiments.evaluation import SELECTED_BY
from experiments.importing import did_you_mean, resolve
from experiments.records import RERUN, Store, settled
from experiments.trust import check_target

Rule = tuple[bool, str]
SCHEMA = OmegaConf.structured(Config)
KEY = re.compile("[0-9a-f]{12}")  # of a record
LONGEST_NAME = 60  # bytes: a record's file is named by a few of them, and has room for 255
MOST_THREADS = 1024
CHOICES = {
    "init": (*INITS, "svd"),
    "on_error": ("continue", "raise"),
    "device": ("cpu", "cuda", "auto"),
    "rerun": tuple(RERUN),
    "task": ("train", "time_training", "time_prediction"),
    "trainer.precision": ("fp32", "bf16"),
    "trainer.schedule": ("constant", "cosine", "exponential"),
    "trainer.select": tuple(SELECTED_BY),
}


def complete(cfg: DictConfig) -> Iterator[Rule]:
    """Every key is there and has a value."""
    missing = sorted(OmegaConf.missing_keys(cfg) | (set(SCHEMA) - set(cfg)))
    key = missing[0] if missing else ""
    yield (
        not missing,
        f"{key} has no value: give one with {key}={'package.module:Name' if key.endswith('target') else '…'}",
    )


def names(cfg: DictConfig) -> Iterator[Rule]:
    """What is one of several names is one of them, and what is a text may be one."""
    yield _choice("integrator.name", cfg.integrator.name, build.INTEGRATORS)
    yield _choice("logger.name", cfg.logger.name, (path.stem for path in (CONF / "logger").glob("*.yaml")))
    for key, choices in CHOICES.items():
        yield _choice(key, OmegaConf.select(cfg, key), choices)
    yield cfg.device != "cuda" or torch.cuda.is_available(), "device=cuda: torch finds no GPU; use device=auto"
    for group in ("model", "data"):
        name = cfg[group].name
        yield (
            name.isprintable() and 0 < len(name.encode()) <= LONGEST_NAME,
            f"{group}.name={name!r}: records are named by it, so give 1 to {LONGEST_NAME} printable characters",
        )
    lists = {"model.skip": cfg.model.skip, "figures": cfg.figures, "objective": cfg.objective}
    if cfg.adapters is not None:
        lists |= {f"adapters.{key}": cfg.adapters[key] for key in ("targets", "trainable")}
    for key, entries in lists.items():
        yield all(isinstance(entry, str) for entry in entries), f"{key}={entries}: give a list of words, as in [a,b]"


def sweeps(cfg: DictConfig) -> Iterator[Rule]:
    """Nothing is given that only a sweep can have."""
    yield (
        not cfg.budget.overrides,
        f"budget={cfg.budget.name} is for sweeps, and this is one run: add -m, or give its values one by one",
    )
    yield (
        cfg.protocol is None or OmegaConf.is_dict(cfg.blocks),
        f"protocol={cfg.protocol} is for presets that have protocols: add experiment=…, or leave it out",
    )
    for key, _ in _flat(OmegaConf.to_container(cfg)["blocks"]):  # type: ignore[index,call-overload]
        yield "hydra" not in key, f"blocks.{key} is Hydra's, for a sweep as a whole: give it on the command line"


def values(cfg: DictConfig) -> Iterator[Rule]:
    """Ranges of what does not depend on the integrator."""
    t = cfg.trainer
    for key in ("repeats", "reference_every", "images"):
        yield cfg.timing[key] >= 1, f"timing.{key}={cfg.timing[key]}: give at least 1"
    yield cfg.timing.warmup >= 0, f"timing.warmup={cfg.timing.warmup}: give at least 0"
    yield 0 <= cfg.seed < 2**63, f"seed={cfg.seed} must lie in 0 … 2⁶³ − 1"
    yield cfg.threads is None or cfg.threads >= 1, f"threads={cfg.threads}: give at least 1, or null"
    yield cfg.threads is None or cfg.threads <= MOST_THREADS, f"threads={cfg.threads}: give at most {MOST_THREADS}"
    yield cfg.checkpoint_seconds >= 0, f"checkpoint_seconds={cfg.checkpoint_seconds}: give at least 0"
    for key in ("epochs", "batch_size", "eval_batch_size", "accumulate"):
        yield t[key] >= 1, f"trainer.{key}={t[key]}: give at least 1"
    yield (
        t.accumulate <= t.batch_size,
        f"trainer.accumulate={t.accumulate} is more parts than trainer.batch_size={t.batch_size} has images: lower it",
    )
    yield t.warmup_steps >= 0, f"trainer.warmup_steps={t.warmup_steps}: give at least 0"
    yield 0 < t.lr < math.inf, f"trainer.lr={t.lr}: the learning rate must be above 0"
    yield 0 < t.gamma <= 1, f"trainer.gamma={t.gamma} must lie in (0, 1]: it multiplies the rate every epoch"
    yield 0 < t.select_last <= 1, f"trainer.select_last={t.select_last} must lie in (0, 1]: a part of the epochs"
    yield 0 <= t.label_smoothing < 1, f"trainer.label_smoothing={t.label_smoothing} must lie in [0, 1)"
    yield (
        0 <= t.fixed_rank_epochs <= t.epochs,
        f"trainer.fixed_rank_epochs={t.fixed_rank_epochs} must lie in 0 … {t.epochs}: they are the last of the epochs",
    )
    yield 0 <= t.collapse_accuracy <= 1, f"trainer.collapse_accuracy={t.collapse_accuracy} must lie in [0, 1]"
    epoch = t.collapse_epoch
    yield (
        epoch is None or 1 <= epoch <= t.epochs,
        f"trainer.collapse_epoch={epoch} must be null or an epoch in 1 … {t.epochs}",
    )


def numbers(cfg: DictConfig) -> Iterator[Rule]:
    """A record can hold every number, and torch every integer."""
    for key, value in _flat(settled(cfg)):
        if isinstance(value, int | float):
            yield math.isfinite(value), f"{key}={value}: a record cannot hold it; give a finite number"
        if isinstance(value, int):
            yield abs(value) < 2**63, f"{key}={value}: give a number below 2⁶³"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What the mappings and lists within `value` hold, by dotted key."""
    if not isinstance(value, dict | list):
        yield path, value
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _flat(item, f"{path}.{key}" if path else str(key))


def integrator(cfg: DictConfig) -> Iterator[Rule]:
    """Ranks, τ and learning rates that the integrator can have."""
    name, rank, low, high = cfg.integrator.name, cfg.rank, cfg.integrator.min_rank, cfg.integrator.max_rank
    yield (
        cfg.integrator.base_lr is None or name in dlrt.INTEGRATORS,
        f"integrator.base_lr={cfg.integrator.base_lr}: {name} has one learning rate for all; use trainer.lr",
    )
    budget, adapts = cfg.integrator.rank_budget, build.INTEGRATORS[name].rank_adaptive or name == "adalora"
    yield budget is None or adapts, f"integrator.rank_budget={budget}: {name} keeps its ranks; leave it null"
    tau_holds = cfg.tau is None or 0 <= cfg.tau < 1
    yield tau_holds, f"tau={cfg.tau} must lie in [0, 1): it is the part of the norm that truncation may drop"
    if build.factorises(name):
        yield rank >= 1, f"rank={rank}: {name} needs a rank of at least 1"
        yield (
            cfg.adapters is not None or 0 < cfg.gain < math.inf,
            f"gain={cfg.gain} must be above 0: it scales the initial spectrum",
        )
    if build.INTEGRATORS[name].rank_adaptive:
        yield low <= rank, f"integrator.min_rank={low} is above the start rank={rank}: lower it or raise rank"
        yield (
            high is None or rank <= high,
            f"integrator.max_rank={high} is below the start rank={rank}: raise it or lower rank",
        )


def adapters(cfg: DictConfig) -> Iterator[Rule]:
    """The integrator trains adapters of this kind."""
    name, adapters = cfg.integrator.name, cfg.adapters
    if adapters is None:
        yield name not in build.ADAPTERS_ONLY, f"integrator={name} trains adapters and nothing else: add adapters=vit"
        return
    given = f"integrator={name} with adapters={adapters.name}"
    if build.factorises(name):
        yield bool(adapters.targets), f"{given}: there are no adapters to train; use integrator=dense, or adapters=vit"
    else:
        yield (
            not adapters.targets,
            f"{given}: plain training has no adapters; adapters=none trains all weights, adapters=probe the classifier",
        )
    yield (
        cfg.task != "time_prediction",
        f"task={cfg.task} with adapters={adapters.name}: merged into the weights, adapters take no time; leave one out",
    )


def start(cfg: DictConfig) -> Iterator[Rule]:
    """The weights that the run starts with are there, and used."""
    if cfg.weights is None:
        return
    yield (
        not build.factorises(cfg.integrator.name) or cfg.adapters is not None or cfg.init == "svd",
        f"weights={cfg.weights} with init={cfg.init} would be thrown away: use init=svd, or weights=null",
    )
    yield (
        KEY.fullmatch(cfg.weights) is not None,
        f"weights={cfg.weights}: give the key of a finished run, 12 hex digits",
    )
    path = Store(cfg.results_dir).weights_path(cfg.weights)
    yield path.is_file(), f"weights={cfg.weights}: there is no file {path}; give the key of a finished run"


def targets(cfg: DictConfig) -> Iterator[Rule]:
    """Model and data may be called, and with these arguments."""
    for group in ("model", "data"):
        try:
            check_target(group, cfg[group].target)
            resolve(cfg[group].target, build.arguments(cfg[group]))
        except ValueError as error:
            yield False, f"{group}={cfg[group].name}: {error}"


def _choice(key: str, value: Any, choices: Iterable[str]) -> Rule:
    known = sorted(choices)
    return value in known, f"{key}={value}: {did_you_mean(value, known)}choose one of {', '.join(known)}"


# Each relies on those before it.
RULES = (complete, sweeps, names, values, integrator, numbers, adapters, start, targets)
