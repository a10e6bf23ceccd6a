"""Which configs are possible runs: rules for their values, and a rehearsal that builds data, model and integrator."""

import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

import dlrt
from dlrt.factors import INITS
from experiments import build
from experiments.config import CONF, Config, ConfigError
from experiments.importing import did_you_mean, resolve
from experiments.records import RERUN, Store, key_of, settled
from experiments.trainer import SELECTED_BY, steps_per_epoch

Rule = tuple[bool, str]
SCHEMA = OmegaConf.structured(Config)
CHOICES = {
    "init": (*INITS, "svd"),
    "device": ("cpu", "cuda", "auto"),
    "rerun": tuple(RERUN),
    "task": ("train", "time_training", "time_prediction"),
    "trainer.precision": ("fp32", "bf16"),
    "trainer.schedule": ("constant", "cosine", "exponential"),
    "trainer.select": tuple(SELECTED_BY),
}


def validate(cfg: DictConfig) -> None:
    """Raise ConfigError, with one sentence, unless `cfg` is a run that can start; nothing is trained.

    OmegaConf's own errors are raised for a key that the schema does not know and a value of the wrong type.
    """
    given: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    OmegaConf.merge(SCHEMA, {key: value for key, value in given.items() if key != "blocks"})  # long, and of any type
    for rules in (_complete, _sweeps, _names, _values, _integrator, _adapters, _start, _targets):
        for holds, sentence in rules(cfg):
            if not holds:
                raise ConfigError(sentence)
    _check_results_dir(Path(cfg.results_dir))
    config = settled(cfg)
    _check_finite(config)
    cycle, limit = _rehearse(json.dumps(_built(config), sort_keys=True))
    if config["rank"] is not None and config["rank"] > limit:
        raise ConfigError(
            f"rank={config['rank']}: no layer of model={config['model']['name']} has a rank above {limit}"
        )
    _check_weights(config, Store(cfg.results_dir))
    _check_data(config, cycle)
    _check_fit(json.dumps({"model": config["model"], "data": config["data"], "seed": 0}, sort_keys=True))


def _complete(cfg: DictConfig) -> Iterator[Rule]:
    missing = sorted(OmegaConf.missing_keys(cfg) | (set(SCHEMA) - set(cfg)))
    key = missing[0] if missing else ""
    yield (
        not missing,
        f"{key} has no value: give one with {key}={'package.module:Name' if key.endswith('target') else '…'}",
    )


def _names(cfg: DictConfig) -> Iterator[Rule]:
    yield _choice("integrator.name", cfg.integrator.name, build.INTEGRATORS)
    yield _choice("logger.name", cfg.logger.name, (path.stem for path in (CONF / "logger").glob("*.yaml")))
    for key, choices in CHOICES.items():
        yield _choice(key, OmegaConf.select(cfg, key), choices)
    yield cfg.device != "cuda" or torch.cuda.is_available(), "device=cuda: torch finds no GPU; use device=auto"


def _sweeps(cfg: DictConfig) -> Iterator[Rule]:
    yield (
        not cfg.budget.overrides,
        f"budget={cfg.budget.name} is for sweeps, and this is one run: add -m, or give its values one by one",
    )
    yield (
        cfg.protocol is None or OmegaConf.is_dict(cfg.blocks),
        f"protocol={cfg.protocol} is for presets that have protocols: add experiment=…, or leave it out",
    )


def _values(cfg: DictConfig) -> Iterator[Rule]:
    t = cfg.trainer
    for key in ("repeats", "reference_every", "images"):
        yield cfg.timing[key] >= 1, f"timing.{key}={cfg.timing[key]}: give at least 1"
    yield cfg.timing.warmup >= 0, f"timing.warmup={cfg.timing.warmup}: give at least 0"
    yield 0 <= cfg.seed < 2**63, f"seed={cfg.seed} must lie in 0 … 2⁶³ − 1"
    yield cfg.threads is None or cfg.threads >= 1, f"threads={cfg.threads}: give at least 1, or null"
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


def _integrator(cfg: DictConfig) -> Iterator[Rule]:
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


def _adapters(cfg: DictConfig) -> Iterator[Rule]:
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


def _start(cfg: DictConfig) -> Iterator[Rule]:
    if cfg.weights is None:
        return
    yield (
        not build.factorises(cfg.integrator.name) or cfg.adapters is not None or cfg.init == "svd",
        f"weights={cfg.weights} with init={cfg.init} would be thrown away: use init=svd, or weights=null",
    )
    path = Store(cfg.results_dir).weights_path(cfg.weights)
    yield path.is_file(), f"weights={cfg.weights}: there is no file {path}; give the key of a finished run"


def _targets(cfg: DictConfig) -> Iterator[Rule]:
    for group in ("model", "data"):
        try:
            resolve(cfg[group].target, build.arguments(cfg[group]))
        except ValueError as error:
            yield False, f"{group}={cfg[group].name}: {error}"


def _choice(key: str, value: Any, choices: Iterable[str]) -> Rule:
    known = sorted(choices)
    return value in known, f"{key}={value}: {did_you_mean(value, known)}choose one of {', '.join(known)}"


def _built(config: dict[str, Any]) -> dict[str, Any]:
    """What model and integrator are built from, but for what no rule of theirs depends on."""
    built = {key: config[key] for key in ("integrator", "model", "adapters", "tau", "init", "gain", "rank")}
    if config["adapters"] is None and config["rank"] is not None:
        built["rank"] = 1
    return built | {"seed": 0, "trainer": {"lr": config["trainer"]["lr"]}}


@lru_cache(maxsize=256)
def _rehearse(config: str) -> tuple[int, float]:
    """Build model and integrator once: the library's own rules, which no rank or kind of start breaks.

    Returns the steps from one truncation to the next, and the highest rank that a factorised layer can have.
    """
    run = json.loads(config)
    if run["init"] == "svd":
        run["init"] = "orthonormal"
    plain = _dense_model(run)
    try:
        net = build.low_rank(run, plain)
        integrator = build.integrator(run, net)
    except ValueError as error:
        adapters = f", adapters={run['adapters']['name']}" if run["adapters"] else ""
        pair = f"integrator={run['integrator']['name']}{adapters} on model={run['model']['name']}"
        raise ConfigError(f"{pair}: {error}") from error
    limit = max((min(layer.matrix_shape) for layer in dlrt.low_rank_layers(net).values()), default=math.inf)
    return integrator.cycle, limit


def _dense_model(run: dict[str, Any]) -> nn.Module:
    try:
        return build.dense_model(run)
    except ValueError as error:
        raise ConfigError(f"model={run['model']['name']}: {error}") from error


@lru_cache(maxsize=64)
def _check_fit(config: str) -> None:
    """Try the model on two images: it must take them and have an output for every label."""
    run = json.loads(config)
    data, pair = build.data(run, torch.device("cpu")), f"model={run['model']['name']} on data={run['data']['name']}"
    x, _ = next(iter(data.batches(data.train, 2)))
    net = _dense_model(run).eval()
    try:
        with torch.no_grad():
            outputs = net(x)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"{pair}: the model does not take images of shape {tuple(x.shape[1:])} ({reason}); "
            "give model.kwargs and data.kwargs that fit each other"
        ) from error
    labels = torch.cat([part.labels for part in (data.train, data.val, data.test) if part is not None])
    low, high = int(labels.min()), int(labels.max())
    if outputs.shape[:-1] != x.shape[:1] or low < 0 or high >= outputs.shape[-1]:
        shape = tuple(outputs.shape[1:])
        raise ConfigError(f"{pair}: outputs of shape {shape} do not fit labels {low} … {high}: one output per class")


def _check_results_dir(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"results_dir={folder}: cannot write there ({error.strerror}); give another folder"
        ) from error


def _check_finite(config: dict[str, Any]) -> None:
    try:
        key_of(config)
    except ValueError as error:
        raise ConfigError("the config holds nan or inf, which a record cannot: give finite numbers") from error


def _check_weights(config: dict[str, Any], store: Store) -> None:
    if config["weights"] is None:
        return
    weights = store.load_weights(config["weights"])
    try:
        build.dense_model(config, weights)
    except ValueError as error:
        raise ConfigError(f"weights={config['weights']} on model={config['model']['name']}: {error}") from error


def _check_data(config: dict[str, Any], cycle: int) -> None:
    name, trainer = config["data"]["name"], config["trainer"]
    try:
        data = build.data(config, torch.device("cpu"))
    except ValueError as error:
        raise ConfigError(f"data={name}: {error}") from error
    if trainer["select"] != "test" and data.val is None:
        raise ConfigError(f"data={name} has no validation images: split some off, or use trainer.select=test")
    per_epoch = math.ceil(len(data.train) / trainer["batch_size"])
    if per_epoch < cycle:
        inner = config["integrator"]["inner_steps"]
        raise ConfigError(
            f"integrator.inner_steps={inner} truncates every {cycle} steps, an epoch has {per_epoch}: lower it"
        )
    steps = trainer["epochs"] * steps_per_epoch(len(data.train), trainer["batch_size"], cycle)
    if trainer["warmup_steps"] > steps:
        raise ConfigError(
            f"trainer.warmup_steps={trainer['warmup_steps']} is longer than the training of {steps} steps: shorten it"
        )
