"""Which configs are possible runs: `rules` for their values, and a rehearsal that builds data, model and integrator."""

import json
import math
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

import dlrt
from experiments import build
from experiments.config import ConfigError
from experiments.explain import first_line
from experiments.objective import check_keys
from experiments.records import Store, settled
from experiments.rules import RULES, SCHEMA
from experiments.schedule import steps_per_epoch
from experiments.trust import is_harmless


def validate(cfg: DictConfig) -> None:
    """Raise ConfigError, with one sentence, unless `cfg` is a run that can start; nothing is trained.

    OmegaConf's own errors are raised for a key that the schema does not know and a value of the wrong type.
    """
    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    OmegaConf.merge(SCHEMA, {key: value for key, value in given.items() if key != "blocks"})  # long, and of any type
    for rules in RULES:
        for holds, sentence in rules(cfg):
            if not holds:
                raise ConfigError(sentence)
    _check_results_dir(Path(cfg.results_dir))
    check_keys(cfg.objective)
    config = settled(cfg)
    cycle, limit = _rehearse(json.dumps(_built(config), sort_keys=True))
    if config["rank"] is not None and config["rank"] > limit:
        raise ConfigError(
            f"rank={config['rank']}: no layer of model={config['model']['name']} has a rank above {limit}"
        )
    _check_weights(config, Store(cfg.results_dir))
    _check_data(config, cycle)
    _check_fit(json.dumps({"model": config["model"], "data": config["data"], "seed": 0}, sort_keys=True))


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
    name, target, kwargs = (run["model"][key] for key in ("name", "target", "kwargs"))
    try:
        return build.dense_model(run)
    except ValueError as error:
        raise ConfigError(f"model={name}: {error}") from error
    except Exception as error:
        if not is_harmless(target):  # a bug in the user's own code, which needs its traceback
            raise
        raise ConfigError(f"model={name}: {target} cannot be built from {kwargs} ({first_line(error)})") from error


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
        reason = first_line(error)
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
    except (ValueError, OSError) as error:
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
