"""The options that integrators and baselines share, and their checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dlrt.descent import RULES, TRANSPORTS

BaseOptimizer = Callable[[list[Tensor]], Optimizer]


def check_options(
    *,
    lr: float,
    tau: float | None,
    min_rank: int,
    max_rank: int | None,
    optimizer: str,
    decay: float,
    inner_steps: int,
    transport: str,
    max_grad_norm: float | None,
    rank_budget: int | None = None,
) -> None:
    """Raise ValueError for a value no integrator or baseline can work with."""
    norm = max_grad_norm
    steady = _number(lr) and _number(decay) and lr * decay < 1
    rules: list[tuple[str, Any, bool, str]] = [
        ("lr", lr, _number(lr) and 0 <= lr < math.inf, "a number of at least 0"),
        ("tau", tau, tau is None or (_number(tau) and 0 <= tau < 1), "in [0, 1), or None to keep the rank"),
        ("min_rank", min_rank, _count(min_rank), "an integer of at least 1"),
        ("max_rank", max_rank, max_rank is None or _count(max_rank, min_rank), f"None or at least {min_rank=}"),
        ("rank_budget", rank_budget, rank_budget is None or _count(rank_budget), "None or an integer of at least 1"),
        ("optimizer", optimizer, optimizer in RULES, f"one of {', '.join(RULES)}"),
        ("decay", decay, _number(decay) and decay >= 0, "a number of at least 0"),
        ("decay", decay, steady, f"below 1/lr with lr = {lr}"),
        ("inner_steps", inner_steps, _count(inner_steps), "an integer of at least 1"),
        ("transport", transport, transport in TRANSPORTS, f"one of {', '.join(TRANSPORTS)}"),
        ("max_grad_norm", norm, norm is None or (_number(norm) and norm > 0), "None or above 0"),
    ]
    for name, value, ok, rule in rules:
        if not ok:
            raise ValueError(f"{name} must be {rule}, got {value!r}")


def check_base_lr(base_lr: float | None, base_optimizer: BaseOptimizer | None) -> None:
    """Raise ValueError for a base_lr that is no learning rate, or stands beside an optimiser with one of its own."""
    if base_lr is not None and not (_number(base_lr) and 0 <= base_lr < math.inf):
        raise ValueError(f"base_lr must be None or a number of at least 0, got {base_lr!r}")
    if base_lr is not None and base_optimizer is not None:
        raise ValueError(f"base_lr={base_lr} is for the default base optimiser: give base_optimizer its own lr instead")


def _number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def _count(x: object, least: int = 1) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x >= least


def base_factory(
    base_optimizer: BaseOptimizer | None,
    optimizer: str,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> BaseOptimizer:
    """`base_optimizer`, or torch's optimiser of the same kind as the one on K, L and S; only AdamW decays."""
    if base_optimizer is not None:
        if isinstance(base_optimizer, Optimizer) or not callable(base_optimizer):
            raise ValueError(
                "base_optimizer must be a function from parameters to an optimiser, "
                f"e.g. functools.partial(torch.optim.AdamW, lr=1e-3), got {base_optimizer!r}"
            )
        return base_optimizer
    if optimizer == "adamw":
        return partial(torch.optim.AdamW, lr=lr, betas=betas, eps=eps, weight_decay=decay)
    if optimizer == "adam":
        return partial(torch.optim.Adam, lr=lr, betas=betas, eps=eps)
    return partial(torch.optim.SGD, lr=lr, momentum=betas[0] if optimizer == "momentum" else 0.0)
