from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlrt.adapters import AdaLoRALayer, adapters_of
from dlrt.baselines.dense import Dense
from dlrt.baselines.lora import check_adapters
from dlrt.closures import Closure


class AdaLoRA(Dense):
    """AdaLoRA (Zhang et al., 2023): simultaneous descent on P, σ and Q under a penalty, with a budget of triplets.

        loss         ℓ + γ R,  R the mean of ‖PᵀP − I‖ and ‖QᵀQ − I‖ over all adapters
        sensitivity  I(w) = |w ∂ℓ/∂w|,   Ī ← β₁ Ī + (1 − β₁) I,   Ū ← β₂ Ū + (1 − β₂) |I − Ī|
        importance   of triplet i: s(σ_i) + mean_j s(P_ji) + mean_j s(Q_ji),  s = Ī Ū
        masking      every ΔT steps σ_i ← 0 but for the b(t) most important triplets of all adapters
        budget       b(t) falls from Σ r to `rank_budget`, cubically between warm-up and final phase, then stays

    Where the paper and its authors' code differ, this is the code: the penalty is a mean of norms (a sum of squares in
    the paper), and the sensitivity is taken at the updated w.

    Args:
        model: has adapters of `dlrt.add_adapters(model, ..., method="adalora")`.
        rank_budget: final number of triplets over all adapters; None: two thirds of Σ r, as the paper starts from 1.5.
        total_steps: length of the training in steps, which the budget's schedule needs; None: no masking.
        warmup, final: parts of `total_steps` before the budget falls and after.
        interval: ΔT.
        penalty: γ.
        smoothing: β₁, β₂.
        options: as `Dense`.

    Raises:
        ValueError: an option out of range, no adapters or others.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        rank_budget: int | None = None,
        total_steps: int | None = None,
        warmup: float = 0.1,
        final: float = 0.3,
        interval: int = 10,
        penalty: float = 0.1,
        smoothing: tuple[float, float] = (0.85, 0.85),
        **options: Any,
    ) -> None:
        check_adapters(model, AdaLoRALayer, "adalora")
        self.adapters = [layer for layer in adapters_of(model).values() if isinstance(layer, AdaLoRALayer)]
        self.start = sum(len(layer.sigma) for layer in self.adapters)
        self.target = round(self.start / 1.5) if rank_budget is None else rank_budget
        rules = [
            (
                "rank_budget",
                self.target,
                1 <= self.target <= self.start,
                f"in 1 … {self.start}, the ranks there are",
            ),
            ("total_steps", total_steps, total_steps is None or total_steps >= 1, "None or at least 1"),
            ("warmup + final", warmup + final, min(warmup, final) >= 0 and warmup + final < 1, "parts below 1 in all"),
            ("interval", interval, interval >= 1, "at least 1"),
        ]
        for name, value, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {value}")
        self.total = total_steps
        self.warmup, self.final = (int(part * (total_steps or 0)) for part in (warmup, final))
        self.interval, self.penalty, self.smoothing = interval, penalty, smoothing
        super().__init__(model, lr, **options)
        self.param_groups[0].setdefault("count", 0)

    @torch.no_grad()
    def step(self, closure: Closure | Sequence[Closure]) -> Tensor:  # type: ignore[override]
        """One step; returns the loss before it, without the penalty."""
        closures = [closure] if callable(closure) else list(closure or ())
        penalties: list[Tensor] = []

        def penalty() -> Tensor:
            penalties.append(self.penalty * orthogonality(self.adapters))
            return penalties[0]

        loss = super().step([*closures, penalty] if closures else closure)
        self.param_groups[0]["count"] += 1
        if self.total is not None:
            self._allocate(self.param_groups[0]["count"], self.total)
        return loss - penalties[0].detach()

    def budget(self, step: int) -> int:
        """b(t), the number of triplets after `step` steps."""
        assert self.total is not None
        left = 1 - (step - self.warmup) / (self.total - self.final - self.warmup)
        return int(self.target + (self.start - self.target) * min(max(left, 0.0), 1.0) ** 3)

    def _allocate(self, step: int, total: int) -> None:
        falling = step < total - self.final
        if falling:
            self._update_sensitivities()
        if step == total - self.final or (falling and step > self.warmup and step % self.interval == 0):
            self._choose(self.budget(step))
        elif falling:
            return  # between two maskings all triplets move
        for layer in self.adapters:
            layer.mask()

    def _update_sensitivities(self) -> None:
        beta1, beta2 = self.smoothing
        for w in (w for layer in self.adapters for w in (layer.P, layer.sigma, layer.Q)):
            if w.grad is None:
                continue
            now, state = (w * w.grad).abs(), self.state[w]
            mean = state["sensitivity"] = now.lerp(state.get("sensitivity", torch.zeros_like(now)), beta1)
            spread = (now - mean).abs()
            state["uncertainty"] = spread.lerp(state.get("uncertainty", torch.zeros_like(now)), beta2)

    def _choose(self, budget: int) -> None:
        """Keep the `budget` most important triplets."""
        scores = torch.cat([self._importance(layer) for layer in self.adapters])
        kept = torch.zeros_like(scores, dtype=torch.bool)
        kept[scores.argsort(descending=True)[:budget]] = True
        for layer, mask in zip(self.adapters, kept.split([len(layer.sigma) for layer in self.adapters]), strict=True):
            layer.kept.copy_(mask)

    def _importance(self, layer: AdaLoRALayer) -> Tensor:
        P, sigma, Q = (self._score(w) for w in (layer.P, layer.sigma, layer.Q))
        return sigma + P.mean(0) + Q.mean(0)

    def _score(self, w: Tensor) -> Tensor:
        state = self.state[w]
        return state["sensitivity"] * state["uncertainty"] if "sensitivity" in state else torch.zeros_like(w)


def orthogonality(adapters: Iterable[AdaLoRALayer]) -> Tensor:
    """R: the mean of ‖PᵀP − I‖ and ‖QᵀQ − I‖ (Frobenius) over the adapters."""
    bases = [basis for layer in adapters for basis in (layer.P, layer.Q)]
    eye = {basis.shape[1]: torch.eye(basis.shape[1], device=basis.device, dtype=basis.dtype) for basis in bases}
    return torch.stack([torch.linalg.matrix_norm(Q.mT @ Q - eye[Q.shape[1]]) for Q in bases]).mean()
