from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlrt.closures import Closure, gradient_pass
from dlrt.options import BaseOptimizer, base_factory, check_options


class Dense(Optimizer):
    """Plain training of all parameters by one torch optimiser, behind the interface of the integrators.

    `decay` shrinks the dense weight matrices, W ← (1 − hλ) W at the start of a step, as an integrator's does S; with
    optimizer="adamw" all parameters, as torch's AdamW does.
    `tau`, `min_rank`, `max_rank`, `inner_steps` and `transport` have no meaning here and are ignored.
    """

    rank_adaptive: ClassVar[bool] = False
    cycle: ClassVar[int] = 1

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        tau: float | None = None,
        min_rank: int = 1,
        max_rank: int | None = None,
        optimizer: str = "sgd",
        decay: float = 0.0,
        base_optimizer: BaseOptimizer | None = None,
        inner_steps: int = 1,
        transport: str = "project",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        max_grad_norm: float | None = None,
    ) -> None:
        check_options(
            lr=lr,
            tau=tau,
            min_rank=min_rank,
            max_rank=max_rank,
            optimizer=optimizer,
            decay=decay,
            inner_steps=inner_steps,
            transport=transport,
            max_grad_norm=max_grad_norm,
        )
        parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.base = base_factory(base_optimizer, optimizer, lr, betas, eps, decay)(parameters)
        self.decay, self.max_grad_norm = decay, max_grad_norm
        self.decayed = [] if optimizer == "adamw" else self._decayed(model)
        super().__init__(self.base.param_groups, self.base.defaults)
        self._share_state()

    @staticmethod
    def _decayed(model: nn.Module) -> list[Tensor]:
        plain = (nn.Linear, nn.Conv2d)
        weights = (m.weight for m in model.modules() if isinstance(m, plain) and m.weight.requires_grad)
        return list({id(w): w for w in weights}.values())

    @torch.no_grad()
    def step(self, closure: Closure | Sequence[Closure]) -> Tensor:  # type: ignore[override]
        """One optimiser step on the closure's loss (or the closures' summed losses); returns the loss before it."""
        self.zero_grad()
        parameters = [p for group in self.param_groups for p in group["params"]]
        loss = gradient_pass(closure, parameters)
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        if self.decay and self.decayed:
            torch._foreach_mul_(self.decayed, 1 - self.param_groups[0]["lr"] * self.decay)
        self.base.step()
        return loss

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share_state()

    def _share_state(self) -> None:
        self.base.param_groups, self.base.state = self.param_groups, self.state
