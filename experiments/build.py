"""From a run's config to its data, model and integrator."""

import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

import dlrt
from dlrt.integrators.base import Integrator
from experiments import models, randomness
from experiments.data import Splits, load_target

Trainable = Integrator | dlrt.baselines.Dense
INTEGRATORS: dict[str, type[Trainable]] = {**dlrt.INTEGRATORS, **dlrt.BASELINES}
ADAPTERS_ONLY = ("lora", "adalora")  # train adapters of their own kind, and nothing else


def factorises(name: str) -> bool:
    """Whether the integrator trains low-rank layers."""
    return INTEGRATORS[name] is not dlrt.baselines.Dense


def ignored_keys(config: dict[str, Any]) -> set[str]:
    """The keys of a run's config without a meaning for its task, integrator and start."""
    name = config["integrator"]["name"]
    ignored = set() if INTEGRATORS[name].rank_adaptive else {"tau"}
    if not factorises(name):
        ignored |= {"rank", "init", "gain"}
    if config["adapters"] is not None:
        ignored |= {"init", "gain"}  # adapters start at zero
    ignored |= {"timing"} if config["task"] == "train" else {"tau", "weights"}  # what is timed keeps its ranks
    return ignored | (set() if config["init"] == "orthonormal" else {"gain"})


def data(config: dict[str, Any], device: torch.device) -> Splits:
    """The data set of a run; the one used last is kept in memory for the next run of a sweep."""
    group = config["data"]
    return _load(group["target"], json.dumps(arguments(group), sort_keys=True)).to(device)


def arguments(group: Mapping[str, Any]) -> dict[str, Any]:
    """What the target of a config's "model" or "data" is called with: its kwargs, and what else is not null."""
    given = {key: group[key] for key in ("weights", "source", "root") if group.get(key) is not None}
    return dict(group["kwargs"]) | given


@lru_cache(maxsize=1)
def _load(target: str, kwargs: str) -> Splits:
    return load_target(target, **json.loads(kwargs))


def model(config: dict[str, Any], weights: dict[str, Tensor] | None = None) -> nn.Module:
    """The seeded model on the CPU, from an earlier run's `weights` if given, with low-rank layers or adapters, if any.

    Raises:
        ValueError: the target's, `dlrt.add_adapters`' or `dlrt.factorize`'s.
    """
    return low_rank(config, dense_model(config, weights))


def low_rank(config: dict[str, Any], net: nn.Module) -> nn.Module:
    """`net`, adapted or factorised in place as the run `config` wants it; ValueError as `model`."""
    if config["adapters"] is not None:
        return adapted(config, net)
    if not factorises(config["integrator"]["name"]):
        return net
    gain = 1.0 if config["gain"] is None else config["gain"]
    return dlrt.factorize(net, rank=config["rank"], init=config["init"], skip=config["model"]["skip"], gain=gain)


def adapted(config: dict[str, Any], net: nn.Module) -> nn.Module:
    """`net` with the config's adapters, of the kind that its integrator trains; frozen but for them and `trainable`."""
    method = config["integrator"]["name"]
    method = method if method in ADAPTERS_ONLY else "integrator"
    options = {key: config["adapters"][key] for key in ("targets", "trainable", "alpha")}
    rank = 1 if config["rank"] is None else config["rank"]  # of no adapters
    return dlrt.add_adapters(net, rank, method=method, **options)


def dense_model(config: dict[str, Any], weights: dict[str, Tensor] | None = None) -> nn.Module:
    """As `model`, neither factorised nor adapted. Raises ValueError if the weights are of another model."""
    randomness.seed(config["seed"])
    net = models.build(config["model"]["target"], **arguments(config["model"]))
    if weights is not None:
        net.load_state_dict(dense_state(weights, net.state_dict()))
    return net


def integrator(config: dict[str, Any], net: nn.Module, steps: int | None = None) -> Trainable:
    """The integrator of a run of so many steps on `net`; schedules of AdaLoRA need their number."""
    options = dict(config["integrator"])
    name = options.pop("name")
    of_some = {key: options.pop(key, None) for key in ("rank_budget", "base_lr")} | {"total_steps": steps}
    known = inspect.signature(INTEGRATORS[name]).parameters
    options |= {key: value for key, value in of_some.items() if key in known}
    trainable: Trainable = INTEGRATORS[name](net, lr=config["trainer"]["lr"], tau=config["tau"], **options)
    return trainable


def dense_state(weights: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict with the names and shapes of `like`, from one whose layers may be factors U, S, V.

    Raises:
        ValueError: the weights lack a tensor or hold it in another size.
    """
    state = {}
    for name, wanted in like.items():
        found = weights.get(name)
        if found is None:
            found = _product(weights, name.removesuffix("weight"))
        if found is None or found.numel() != wanted.numel():
            raise ValueError(f"the weights hold no {name} of shape {tuple(wanted.shape)}: they are another model's")
        state[name] = found.reshape(wanted.shape)
    return state


def _product(weights: dict[str, Tensor], layer: str) -> Tensor | None:
    try:
        U, S, V = (weights[layer + factor] for factor in "USV")
    except KeyError:
        return None
    return U @ S @ V.mT
