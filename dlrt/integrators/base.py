"""What all integrators share: a step is a sequence of K-, L- and S-flows.

A flow moves one coefficient matrix of every layer along its gradient, the bases held fixed:

    flow   moves                    gradient     starting point
    K      (U S + K) Vᵀ             G V          K(t₀) = U S
    L      U (V Sᵀ + L)ᵀ            Gᵀ U         L(t₀) = V Sᵀ
    S      U (S + S̃) Vᵀ             Uᵀ G V       S(t₀) = S

An integrator names its flows, says which of them start at a new point (all others start at Y₀ and share its one
gradient), and says in `after_K`, `after_L`, `after_S` what the factors are when the flow has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlrt import descent
from dlrt.closures import Closure, Replay, clip_scale, gradient_pass
from dlrt.errors import Divergence
from dlrt.factors import Factors
from dlrt.layers import LowRankLayer
from dlrt.linalg import truncate
from dlrt.options import BaseOptimizer, base_factory, check_options
from dlrt.surgery import low_rank_layers
from dlrt.tape import Gradient, recording


@dataclass
class LayerStep:
    """One layer within a step: the factors where the current flow starts, and how far each flow has moved."""

    base: Factors
    K: Tensor = field(init=False)  # K(t₁) − K(t₀), (m, r)
    L: Tensor = field(init=False)  # L(t₁) − L(t₀), (n, r)
    S: Tensor = field(init=False)  # S(t₁) − S(t₀), (r, r)

    def move(self, flow: str, by: Tensor) -> None:
        """Move the coefficients of a flow."""
        moved = self.moved()
        setattr(self, flow, moved[flow] + by if flow in moved else by)

    def moved(self) -> dict[str, Tensor]:
        """The displacements of the flows that have begun."""
        return {flow: vars(self)[flow] for flow in "KLS" if flow in vars(self)}


class Integrator(Optimizer):
    """A low-rank integrator as a torch optimiser: it trains the low-rank layers of a model, and all else with them.

    Args:
        model: holds at least one low-rank layer (see `dlrt.factorize`).
        lr: step size h.
        tau: relative truncation tolerance τ in [0, 1); None keeps the rank. Rank-adaptive integrators only.
        min_rank, max_rank: bounds of the rank that the truncation chooses; None is no bound.
        optimizer: rule for the coefficients K, L and S: "sgd", "momentum" (β₁) or "adam".
        decay: λ ≥ 0: S ← (1 − hλ) S at the start of a step, the gradient being taken before.
        base_optimizer: function from the list of all other parameters to the torch optimiser that steps them, e.g.
            `functools.partial(torch.optim.AdamW, lr=1e-3)`; None: the same rule and lr as the coefficients.
        inner_steps: s. With s = 1 a call of `step` is a whole step of the integrator on one batch. With s > 1 (abc-PSI,
            2025, section 4.1) each call is one gradient step of one flow: s calls move K, the next s the next flow, …,
            and the last truncates. In between, the layer holds the moving coefficients: U is K and S the identity in a
            K-flow, V is L and S the identity in an L-flow. Where in the cycle it is, is part of the state.
        transport: what happens to the rule's moments when the basis under them moves. "project" carries them into the
            new coordinates (first moments exactly, see `dlrt.descent.transport`); "index" keeps them by index, padding
            with zeros or cutting, as the papers' Adam does.
        betas, eps: constants of the momentum (β₁) and Adam rules.
        max_grad_norm: None, or the norm to which the gradient is clipped: P(Y)G over all layers and the gradient of all
            other parameters, jointly.

    Parameter group 0 holds the factors; group 1, if there is any, all other parameters: it is the base optimiser's own,
    so that schedulers reach both. The rules' moments and the base optimiser's state are in `state`.

    Raises:
        ValueError: an option out of range, a model without low-rank layers, τ for an integrator of fixed rank.
        Divergence: from `step`, when the loss or a factor is not finite.
    """

    flows: ClassVar[tuple[str, ...]]
    new_points: ClassVar[frozenset[str]] = frozenset()
    rank_adaptive: ClassVar[bool] = False

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
        options: dict[str, Any] = dict(lr=lr, tau=tau, min_rank=min_rank, max_rank=max_rank, optimizer=optimizer)
        options |= dict(decay=decay, inner_steps=inner_steps, transport=transport, max_grad_norm=max_grad_norm)
        check_options(**options)
        if tau is not None and not self.rank_adaptive:
            raise ValueError(f"{type(self).__name__} keeps its rank and takes no tau, got {tau}: leave tau=None")
        self.model = model
        self.layers = low_rank_layers(model)
        if not self.layers:
            raise ValueError("the model has no low-rank layer: call dlrt.factorize(model, ...) first")
        factors: list[Tensor] = [p for layer in self.layers.values() for p in (layer.U, layer.S, layer.V)]
        options |= dict(betas=betas, eps=eps, phase=0)
        super().__init__([{"params": factors, "name": "low_rank"}], options)
        known = set(factors)
        self.others: list[Tensor] = [p for p in model.parameters() if p.requires_grad and p not in known]
        make_base = base_factory(base_optimizer, optimizer, lr, betas, eps)
        self.base = make_base(self.others) if self.others else None
        if self.base is not None:
            self.param_groups.append(self.base.param_groups[0])
        self._share_state()

    @property
    def passes(self) -> int:
        """Forward/backward passes of one step (with inner_steps = 1)."""
        return 1 + len(self.new_points)

    def after_K(self, step: LayerStep) -> Factors:
        """Factors after the K-flow; by default those before: the next flow starts at the same point."""
        return step.base

    def after_L(self, step: LayerStep) -> Factors:
        """Factors after the L-flow, as `after_K`."""
        return step.base

    def after_S(self, step: LayerStep) -> Factors:
        """Factors after the S-flow, as `after_K`."""
        return step.base

    @torch.no_grad()
    def step(self, closure: Closure | Sequence[Closure]) -> Tensor:  # type: ignore[override]
        """Advance all parameters by one step; return the loss at Y₀.

        Args:
            closure: computes the loss, forward only; or a list of closures, one per micro-batch, whose losses add up
                and whose graphs live one after another. Gradients are zeroed before.

        A layer that the loss does not depend on stays unchanged. Where the integrator needs more than one gradient
        point, the later passes repeat the first one's random numbers, and buffers keep what the first one left.
        """
        loss = self._whole_step(closure) if self.param_groups[0]["inner_steps"] == 1 else self._inner_step(closure)
        for name, layer in self.layers.items():
            if not bool(layer.S.isfinite().all()):
                raise Divergence(f"the coefficients of {name} are not finite: lower the learning rate", name)
        if self.base is not None:
            self.base.step()
        return loss

    def _whole_step(self, closure: Closure | Sequence[Closure]) -> Tensor:
        replay = Replay(self.model) if self.new_points else None
        loss, tapes = self._first_gradient(closure)
        steps = {name: LayerStep(self._decayed(tape.Y)) for name, tape in tapes.items() if tape.reached}
        for flow in self.flows:
            if flow in self.new_points:
                for name, step in steps.items():
                    self.layers[name].factors = step.base
                assert replay is not None
                with replay.again():
                    tapes = self._next_gradient(closure, tapes)
            for name, step in steps.items():
                self._move(name, step, flow, tapes[name])
                self._end_flow(name, step, flow)
        for name, step in steps.items():
            self.layers[name].factors = step.base
        return loss

    def _inner_step(self, closure: Closure | Sequence[Closure]) -> Tensor:
        """One gradient step of one flow; the flow ends after `inner_steps` of them, the step after its last flow."""
        group = self.param_groups[0]
        at, inner = divmod(group["phase"], group["inner_steps"])
        flow, ends = self.flows[at], inner + 1 == group["inner_steps"]
        loss, tapes = self._first_gradient(closure)
        for name, layer in self.layers.items():
            step = self._resume(layer)
            self._move(name, step, flow, tapes[name])
            if ends:
                self._end_flow(name, step, flow)
            if ends and flow == self.flows[-1]:
                layer.factors = step.base
                self.state[layer.S].pop("cycle", None)
            else:
                self._suspend(layer, step, self.flows[at + ends])
        group["phase"] = (group["phase"] + 1) % (len(self.flows) * group["inner_steps"])
        return loss

    def _first_gradient(self, closure: Closure | Sequence[Closure]) -> tuple[Tensor, dict[str, Gradient]]:
        self.zero_grad()
        with recording(self.layers) as tapes:
            loss = gradient_pass(closure)
        max_norm = self.param_groups[0]["max_grad_norm"]
        if max_norm is not None:
            reached = [tape for tape in tapes.values() if tape.reached]
            grads = [p.grad for p in self.others if p.grad is not None]
            scale = clip_scale(reached, grads, max_norm)
            for tape in tapes.values():
                tape.rescale(scale)
            for grad in grads:
                grad.mul_(scale)
        return loss, tapes

    def _next_gradient(self, closure: Closure | Sequence[Closure], first: dict[str, Gradient]) -> dict[str, Gradient]:
        """The gradient at the layers' present factors, scaled as the first; all other gradients stay the first ones."""
        grads = [(p, p.grad) for p in self.others]
        self.zero_grad()
        with recording(self.layers) as tapes:
            gradient_pass(closure)
        for p, grad in grads:
            p.grad = grad
        for name, tape in tapes.items():
            tape.rescale(first[name].scale)
        return tapes

    def _decayed(self, Y: Factors) -> Factors:
        group = self.param_groups[0]
        if group["decay"] == 0:
            return Y
        return Y._replace(S=Y.S * (1 - group["lr"] * group["decay"]) ** group["inner_steps"])

    def _move(self, name: str, step: LayerStep, flow: str, gradient: Gradient) -> None:
        """One explicit Euler step of a flow: the coefficients move by −h D."""
        U, S, V = step.base
        if gradient.reached:
            g = {
                "K": lambda: gradient.right(V),
                "L": lambda: gradient.left(U),
                "S": lambda: gradient.core(U, V),
            }[flow]()
            group, moments = self.param_groups[0], self._moments(name, flow)
            D = descent.direction(group["optimizer"], g, moments, group["betas"], group["eps"])
            step.move(flow, -group["lr"] * self.direction_of_time(flow) * D)
        else:
            step.move(flow, torch.zeros_like({"K": U @ S, "L": V @ S.mT, "S": S}[flow]))

    def direction_of_time(self, flow: str) -> int:
        """+1, or −1 for a flow that runs backward in time."""
        return 1

    def _end_flow(self, name: str, step: LayerStep, flow: str) -> None:
        """Go on to the next flow's factors and carry the moments into their coordinates."""
        old = step.base
        try:
            step.base = getattr(self, f"after_{flow}")(step)
        except Divergence as error:
            raise Divergence(f"{name}: {error}", name) from error
        later = self.flows[self.flows.index(flow) + 1 :]
        # Within a gradient point a basis only grows, by columns behind the old ones.
        grows = bool(later) and later[0] not in self.new_points
        by_index = grows or self.param_groups[0]["transport"] == "index"
        u, v = (_transition(a, b, by_index) for a, b in ((old.U, step.base.U), (old.V, step.base.V)))
        for kind, left, right in (("K", None, v), ("L", None, u), ("S", u, v)):
            descent.transport(self._moments(name, kind), left, right)

    def _moments(self, name: str, flow: str) -> descent.Moments:
        if self.param_groups[0]["optimizer"] == "sgd":
            return {}
        return self.state[self.layers[name].S].setdefault(flow, {})

    def _truncate(self, Y: Factors, rank: int) -> Factors:
        """Y within τ and the bounds of the rank, or, without τ, of the old rank."""
        group = self.param_groups[0]
        if group["tau"] is None:
            return truncate(Y, None, max_rank=rank)
        return truncate(Y, group["tau"], group["min_rank"], group["max_rank"])

    def _resume(self, layer: LowRankLayer) -> LayerStep:
        cycle = self.state[layer.S].get("cycle")
        if cycle is None:
            return LayerStep(self._decayed(layer.factors))
        step = LayerStep(Factors(*(cycle[f"base_{name}"] for name in "USV")))
        for flow in self.flows:
            if flow in cycle:
                step.move(flow, cycle[flow])
        return step

    def _suspend(self, layer: LowRankLayer, step: LayerStep, flow: str) -> None:
        """Keep the step for the next call and let the layer hold the moving coefficients."""
        moved = step.moved()
        self.state[layer.S]["cycle"] = {f"base_{n}": x for n, x in zip("USV", step.base, strict=True)} | moved
        (U, S, V), by = step.base, moved.get(flow, torch.zeros((), dtype=step.base.S.dtype, device=step.base.S.device))
        eye = torch.eye(S.shape[1 if flow == "K" else 0], dtype=S.dtype, device=S.device)
        points = {
            "K": lambda: (U @ S + by, eye, V),
            "L": lambda: (U, eye, V @ S.mT + by),
            "S": lambda: (U, S + by, V),
        }
        layer.factors = Factors(*points[flow]())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; load the model's own state_dict as well, in any order."""
        super().load_state_dict(state_dict)
        self._share_state()

    def _share_state(self) -> None:
        # The base optimiser works on the integrator's own group and state: one state_dict holds everything.
        if self.base is not None:
            self.base.param_groups = self.param_groups[1:]
            self.base.state = self.state


def _transition(old: Tensor, new: Tensor, by_index: bool) -> Tensor | None:
    """R (r, k) with new coordinates = old coordinates · R."""
    if new is old:
        return None
    if by_index:
        return torch.eye(old.shape[1], new.shape[1], dtype=old.dtype, device=old.device)
    return old.mT @ new
