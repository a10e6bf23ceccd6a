"""From a run's config to its data, model and integrator."""

import json
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

import dlrt
from dlrt.integrators.base import Integrator
from experiments import models
from experiments.data import Splits, load_target

Trainable = Integrator | dlrt.baselines.Dense
INTEGRATORS: dict[str, type[Trainable]] = {**dlrt.INTEGRATORS, **dlrt.BASELINES}


def factorises(name: str) -> bool:
    """Whether the integrator trains low-rank layers."""
    return INTEGRATORS[name] is not dlrt.baselines.Dense


def ignored_keys(config: dict[str, Any]) -> set[str]:
    """The keys of a run's config without a meaning for its task, integrator and start."""
    name = config["integrator"]["name"]
    ignored = set() if INTEGRATORS[name].rank_adaptive else {"tau"}
    if not factorises(name):
        ignored |= {"rank", "init", "gain"}
    ignored |= {"timing"} if config["task"] == "train" else {"tau", "weights"}  # what is timed keeps its ranks
    return ignored | (set() if config["init"] == "orthonormal" else {"gain"})


def device_of(name: str) -> torch.device:
    """The torch device for cpu, cuda or auto (cuda where there is one)."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def data(config: dict[str, Any], device: torch.device) -> Splits:
    """The data set of a run; the one used last is kept in memory for the next run of a sweep."""
    group = config["data"]
    return _load(group["target"], json.dumps(group["kwargs"], sort_keys=True)).to(device)


@lru_cache(maxsize=1)
def _load(target: str, kwargs: str) -> Splits:
    return load_target(target, **json.loads(kwargs))


def model(config: dict[str, Any], weights: dict[str, Tensor] | None = None) -> nn.Module:
    """The seeded model on the CPU, from an earlier run's `weights` if given, factorised if the integrator wants it."""
    net = dense_model(config, weights)
    if not factorises(config["integrator"]["name"]):
        return net
    gain = 1.0 if config["gain"] is None else config["gain"]
    return dlrt.factorize(net, rank=config["rank"], init=config["init"], skip=config["model"]["skip"], gain=gain)


def dense_model(config: dict[str, Any], weights: dict[str, Tensor] | None = None) -> nn.Module:
    """As `model`, not factorised. Raises ValueError if the weights are of another model."""
    torch.manual_seed(config["seed"])
    net = models.build(config["model"]["target"], **config["model"]["kwargs"])
    if weights is not None:
        net.load_state_dict(dense_state(weights, net.state_dict()))
    return net


def integrator(config: dict[str, Any], net: nn.Module) -> Trainable:
    """The integrator of a run, on `net`."""
    options = dict(config["integrator"])
    cls = INTEGRATORS[options.pop("name")]
    trainable: Trainable = cls(net, lr=config["trainer"]["lr"], tau=config["tau"], **options)
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
