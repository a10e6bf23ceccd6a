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
    moved: dict[str, Tensor] = field(default_factory=dict)  # displacement of K, L and S by their flows
    moments: dict[str, descent.Moments] = field(default_factory=dict)  # the rule's new moments, kept when the step ends

    @property
    def dK(self) -> Tensor:
        """K(t₁) − K(t₀), (m, r)."""
        return self.moved["K"]

    @property
    def dL(self) -> Tensor:
        """L(t₁) − L(t₀), (n, r)."""
        return self.moved["L"]

    @property
    def dS(self) -> Tensor:
        """S(t₁) − S(t₀), of the shape of the core."""
        return self.moved["S"]


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
            new coordinates (see `dlrt.descent`: momentum on a matrix of full rank is then dense momentum); "index"
            keeps them by index, padding with zeros or cutting, as the papers' Adam does.
        betas, eps: constants of the momentum (β₁) and Adam rules.
        max_grad_norm: None, or the norm to which the gradient is clipped: P(Y)G over all layers and the gradient of all
            other parameters, jointly.

    Parameter group 0 holds the factors; the base optimiser's own groups follow (one, unless it makes more) with all
    other parameters, so that schedulers reach both. The rules' moments and the base optimiser's state are in `state`.
    A low-rank layer with a frozen factor is left alone; factors that are not orthonormal, because another optimiser
    has trained them, are made so, the weight unchanged.

    Raises:
        ValueError: an option out of range, no low-rank layer to train, τ for an integrator of fixed rank.
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
        trainable = {k: m for k, m in low_rank_layers(model).items() if all(p.requires_grad for p in (m.U, m.S, m.V))}
        if not trainable:
            raise ValueError("the model has no low-rank layer to train: call dlrt.factorize(model, ...) first")
        self.layers = trainable
        for layer in self.layers.values():
            layer.orthonormalize()
        factors: list[Tensor] = [p for layer in self.layers.values() for p in (layer.U, layer.S, layer.V)]
        options |= dict(betas=betas, eps=eps, phase=0, integrator=type(self).__name__)
        super().__init__([{"params": factors, "name": "low_rank"}], options)
        known = {id(p) for layer in low_rank_layers(model).values() for p in (layer.U, layer.S, layer.V)}
        self.others: list[Tensor] = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        make_base = base_factory(base_optimizer, optimizer, lr, betas, eps)
        self.base = make_base(self.others) if self.others else None
        if self.base is not None:
            for group in self.base.param_groups:
                group.setdefault("betas", betas)  # schedulers that cycle the momentum look for it in every group
                self.param_groups.append(group)
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
            closure: computes the loss, forward only, of the same batch whenever it is called within the step; or a list
                of closures, one per micro-batch, whose losses add up and whose graphs live one after another. Gradients
                are zeroed before.

        A layer that the loss does not depend on stays unchanged. Where the integrator needs more than one gradient
        point, the later passes repeat the first one's random numbers, and buffers keep what the first one left.
        """
        self._check_cycle()
        loss = self._whole_step(closure) if self.param_groups[0]["inner_steps"] == 1 else self._inner_step(closure)
        if not bool(torch.stack([layer.S.sum() for layer in self.layers.values()]).isfinite().all()):
            name = next(name for name, layer in self.layers.items() if not bool(layer.S.sum().isfinite()))
            raise Divergence(f"the coefficients of {name} are not finite: lower the learning rate", name)
        if self.base is not None:
            self.base.step()
        return loss

    def _whole_step(self, closure: Closure | Sequence[Closure]) -> Tensor:
        replay = Replay(self.model) if self.new_points else None
        loss, first = self._first_gradient(closure)
        steps = {name: LayerStep(self._decayed(tape.Y)) for name, tape in first.items() if tape.reached}
        tapes = first
        try:
            for flow in self.flows:
                if flow in self.new_points:
                    assert replay is not None
                    for name, step in steps.items():
                        self.layers[name].factors = step.base
                    with replay.again():
                        tapes = self._next_gradient(closure, first)
                for name, step in steps.items():
                    self._move(name, step, flow, tapes[name])
                    self._end_flow(name, step, flow)
        except BaseException:
            for name, tape in first.items():
                self.layers[name].factors = tape.Y
            raise
        for name, step in steps.items():
            self.layers[name].factors = step.base
            self._keep_moments(name, step)
        return loss

    def _inner_step(self, closure: Closure | Sequence[Closure]) -> Tensor:
        """One gradient step of one flow; the flow ends after `inner_steps` of them, the step after its last flow."""
        group = self.param_groups[0]
        at, inner = divmod(group["phase"], group["inner_steps"])
        flow, ends = self.flows[at], inner + 1 == group["inner_steps"]
        loss, tapes = self._first_gradient(closure)
        for name, layer in self.layers.items():
            if not tapes[name].reached and "cycle" not in self.state[layer.S]:
                continue
            step = self._resume(name, at)
            self._move(name, step, flow, tapes[name])
            if ends:
                self._end_flow(name, step, flow)
            self._keep_moments(name, step)
            if ends and flow == self.flows[-1]:
                layer.factors = step.base
                del self.state[layer.S]["cycle"]
            else:
                self._suspend(layer, step, self.flows[at + ends])
        group["phase"] = (group["phase"] + 1) % (len(self.flows) * group["inner_steps"])
        return loss

    def _first_gradient(self, closure: Closure | Sequence[Closure]) -> tuple[Tensor, dict[str, Gradient]]:
        loss, tapes = self._gradient(closure)
        max_norm = self.param_groups[0]["max_grad_norm"]
        if max_norm is not None:
            grads = [p.grad for p in self.others if p.grad is not None]
            scale = clip_scale((tape for tape in tapes.values() if tape.reached), grads, max_norm)
            for tape in tapes.values():
                tape.rescale(scale)
            for grad in grads:
                grad.mul_(scale)
        return loss, tapes

    def _next_gradient(self, closure: Closure | Sequence[Closure], first: dict[str, Gradient]) -> dict[str, Gradient]:
        """The gradient at the layers' present factors, scaled as the first; all other gradients stay the first ones."""
        grads = [(p, p.grad) for p in self.others]
        _, tapes = self._gradient(closure)
        for p, grad in grads:
            p.grad = grad
        for name, tape in tapes.items():
            tape.rescale(first[name].scale)
        return tapes

    def _gradient(self, closure: Closure | Sequence[Closure]) -> tuple[Tensor, dict[str, Gradient]]:
        self.zero_grad()
        with recording(self.layers) as tapes:
            loss = gradient_pass(closure, self.others, tapes)
        for name, layer in self.layers.items():
            if any(p.grad is not None for p in (layer.U, layer.S, layer.V)):
                raise ValueError(
                    f"the loss reads the weight of {name!r} other than through the layer's forward: no integrator can "
                    f"train that; keep the layer dense with skip=[{name!r}] (for a penalty on the weight, use decay)"
                )
        return loss, tapes

    def _decayed(self, Y: Factors) -> Factors:
        group = self.param_groups[0]
        if group["decay"] == 0:
            return Y
        if group["lr"] * group["decay"] >= 1:
            raise ValueError(f"lr · decay must stay below 1, got {group['lr']} · {group['decay']}: lower one of them")
        return Y._replace(S=Y.S * (1 - group["lr"] * group["decay"]) ** group["inner_steps"])

    def _move(self, name: str, step: LayerStep, flow: str, gradient: Gradient) -> None:
        """One explicit Euler step of a flow: the coefficients move by −h D."""
        if not gradient.reached:
            step.moved.setdefault(flow, torch.zeros_like(_coefficients(step.base, flow)))
            return
        U, _, V = step.base
        g = {"K": lambda: gradient.right(V), "L": lambda: gradient.left(U), "S": lambda: gradient.core(U, V)}[flow]()
        group = self.param_groups[0]
        D, step.moments[flow] = descent.direction(
            group["optimizer"], g, self._moments(name).get(flow, {}), group["betas"], group["eps"]
        )
        by = -group["lr"] * self.direction_of_time(flow) * D
        step.moved[flow] = step.moved[flow] + by if flow in step.moved else by

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
        self.state[self.layers[name].S].update(self._carried(self._moments(name), old, step.base, grows))
        step.moments = self._carried(step.moments, old, step.base, grows)

    def _carried(
        self, moments: dict[str, descent.Moments], old: Factors, new: Factors, grows: bool
    ) -> dict[str, descent.Moments]:
        if new is old or not any(moments.values()):
            return moments
        if grows and self.param_groups[0]["transport"] == "project":
            U_new, V_new = new.U[:, old.U.shape[1] :], new.V[:, old.V.shape[1] :]
            return descent.extend(moments, old, U_new, V_new)
        by_index = self.param_groups[0]["transport"] == "index"
        u, v = (_transition(a, b, by_index) for a, b in ((old.U, new.U), (old.V, new.V)))
        sides = {"K": (None, v), "L": (None, u), "S": (u, v)}
        return {flow: descent.transport(m, *sides[flow]) for flow, m in moments.items()}

    def _moments(self, name: str) -> dict[str, descent.Moments]:
        """The moments of K, L and S as the last step left them."""
        state = self.state[self.layers[name].S]
        return {flow: state[flow] for flow in self.flows if flow in state}

    def _keep_moments(self, name: str, step: LayerStep) -> None:
        if self.param_groups[0]["optimizer"] != "sgd":
            self.state[self.layers[name].S].update(step.moments)
        step.moments = {}

    def _truncate(self, Y: Factors, rank: int) -> Factors:
        """Y within τ and the bounds of the rank, or, without τ, of the old rank."""
        group = self.param_groups[0]
        if group["tau"] is None:
            return truncate(Y, None, max_rank=rank)
        return truncate(Y, group["tau"], group["min_rank"], group["max_rank"])

    def _resume(self, name: str, at: int) -> LayerStep:
        """The layer's step as the last call left it; a layer first reached in a later flow has not moved before."""
        cycle = self.state[self.layers[name].S].get("cycle")
        if cycle is not None:
            moved = {flow: cycle[flow] for flow in self.flows if flow in cycle}
            return LayerStep(Factors(*(cycle[f"base_{factor}"] for factor in "USV")), moved)
        step = LayerStep(self._decayed(self.layers[name].factors))
        for flow in self.flows[:at]:
            step.moved[flow] = torch.zeros_like(_coefficients(step.base, flow))
            self._end_flow(name, step, flow)
        return step

    def _suspend(self, layer: LowRankLayer, step: LayerStep, flow: str) -> None:
        """Keep the step for the next call and let the layer hold the moving coefficients."""
        base = {f"base_{factor}": x for factor, x in zip("USV", step.base, strict=True)}
        self.state[layer.S]["cycle"] = base | step.moved
        U, S, V = step.base
        X = _coefficients(step.base, flow)
        X = X + step.moved[flow] if flow in step.moved else X
        eye = torch.eye(S.shape[1 if flow == "K" else 0], dtype=S.dtype, device=S.device)
        layer.factors = {"K": Factors(X, eye, V), "L": Factors(U, eye, X), "S": Factors(U, X, V)}[flow]

    def _check_cycle(self) -> None:
        group = self.param_groups[0]
        if group["phase"] == 0:
            group["cycle_steps"] = group["inner_steps"]
        elif group["cycle_steps"] != group["inner_steps"]:
            raise ValueError(
                f"inner_steps cannot change from {group['cycle_steps']} to {group['inner_steps']} within a cycle: "
                "change it after a truncation, when param_groups[0]['phase'] is 0"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused once the integrator is built: its groups follow from the model."""
        if self.param_groups:
            raise ValueError(
                "an integrator's parameter groups follow from its model: build a new one, or use base_optimizer"
            )
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; load the model's own state_dict as well, in any order.

        Raises:
            ValueError: the state is that of another integrator.
        """
        saved = state_dict["param_groups"][0].get("integrator")
        if saved != type(self).__name__:
            raise ValueError(f"the state is that of {saved or 'another optimiser'}, not of {type(self).__name__}")
        super().load_state_dict(state_dict)
        self._share_state()
        group = self.param_groups[0]
        for name, layer in self.layers.items():
            if "cycle" in self.state[layer.S]:
                at = group["phase"] // group["inner_steps"]
                self._suspend(layer, self._resume(name, at), self.flows[at])

    def __getstate__(self) -> dict[str, Any]:
        """For copy.deepcopy of an integrator together with its model."""
        own = {key: vars(self)[key] for key in ("model", "layers", "others", "base")}
        return super().__getstate__() | own

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


def _coefficients(Y: Factors, flow: str) -> Tensor:
    """K = U S, L = V Sᵀ or S."""
    return {"K": lambda: Y.U @ Y.S, "L": lambda: Y.V @ Y.S.mT, "S": lambda: Y.S}[flow]()
