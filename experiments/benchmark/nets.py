"""The nets of the cases, dense, factorised or with adapters, and what trains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import dlrt
from dlrt.baselines import Dense
from experiments import build, models
from experiments.benchmark.cases import PROBE, Case
from experiments.config import ConfigError

LR = 1e-3
GAIN = 0.7  # of the initial spectrum, as in conf/config.yaml
TARGETS = ("self_attention", "mlp")  # q, k, v and output of every attention, both layers of every MLP
HEAD = r"^heads?\."
# AdaLoRA's sensitivities are updated in every step, triplets ranked in every tenth, and hardly one is masked.
SCHEDULE: dict[str, Any] = {"total_steps": 1_000_000, "warmup": 0.0}


class Steps(Protocol):
    """An integrator, a torch optimiser behind its interface or the separate passes."""

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """One training step; returns the loss before it."""
        ...


def dense_net(case: Case, seed: int) -> nn.Module:
    """The net of the case with plain torch layers and random weights."""
    torch.manual_seed(seed)
    if case.fine_tunes:
        net: nn.Module = getattr(models, case.model)(image_size=case.image_size)
        return net
    return models.lenet5() if case.model == "lenet5" else models.mlp(width=case.width or 0)


def trained_net(case: Case, seed: int) -> nn.Module:
    """The net of the case with layers or adapters of its ranks."""
    net = dense_net(case, seed)
    if case.fine_tunes:
        return _adapted(case, net)
    layers = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    rank: Any = dict(zip(layers, case.rank, strict=True)) if isinstance(case.rank, tuple) else case.rank
    skip = [] if case.model == "lenet5" else ["output"]
    return dlrt.factorize(net, rank=rank, init="orthonormal", gain=GAIN, skip=skip)


def _adapted(case: Case, net: nn.Module) -> nn.Module:
    if case.integrator == PROBE:
        return dlrt.add_adapters(net, 1, targets=(), trainable=HEAD)
    assert isinstance(case.rank, int)
    method = case.integrator if case.integrator in build.ADAPTERS_ONLY else "integrator"
    return dlrt.add_adapters(net, case.rank, TARGETS, method, trainable=("bias$", HEAD))


def integrator(case: Case, net: nn.Module) -> Steps:
    """What trains the `trained_net` of the case, at fixed rank."""
    rule = _rule(case)
    if case.integrator in dlrt.INTEGRATORS:
        return dlrt.INTEGRATORS[case.integrator](net, lr=LR, tau=None, optimizer=rule, inner_steps=case.inner_steps)
    schedule = SCHEDULE if case.integrator == "adalora" else {}
    baseline = Dense if case.integrator == PROBE else dlrt.BASELINES[case.integrator]
    return baseline(net, lr=LR, optimizer=rule, **schedule)


def dense_optimizer(case: Case, net: nn.Module) -> Steps:
    """What trains all weights of the `dense_net` of the case by the same rule."""
    return Dense(net, lr=LR, optimizer=_rule(case))


def _rule(case: Case) -> str:
    return "adamw" if case.fine_tunes else "sgd"


def check(case: Case) -> None:
    """Raise ConfigError if the vision transformer cannot have the case's image size or rank."""
    try:
        with torch.device("meta"):
            net = dense_net(case, seed=0)
        _adapted(case, net)
    except ValueError as error:
        raise ConfigError(f"a case of {case.model}: {error}") from error
