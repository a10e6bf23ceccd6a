"""How a step runs: gradients, flows, moments, and the cycle of `inner_steps`. What the steps are is the integrators'.

Every integrator goes through here; its equations are in its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlrt import descent
from dlrt.closures import Closure, Replay, clip_scale, gradient_pass
from dlrt.errors import Divergence
from dlrt.factors import Factors
from dlrt.layers import LowRankLayer
from dlrt.precision import full_precision
from dlrt.tape import Gradient, recording


@dataclass
class LayerStep:
    """One layer within a step: the factors where the current flow starts, and how far each flow has moved."""

    base: Factors
    rank: int  # of the layer at the start of the step
    earlier: dict[str, descent.Moments]  # the rule's moments of K, L and S as the last step left them, at `base`
    moved: dict[str, Tensor] = field(default_factory=dict)  # displacement of K, L and S by their flows
    moments: dict[str, descent.Moments] = field(default_factory=dict)  # the rule's new moments

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


class Engine(Optimizer):
    """Runs the flows of a step over all layers together, on one batch or, with inner_steps > 1, over several calls."""

    flows: ClassVar[tuple[str, ...]]
    new_points: ClassVar[frozenset[str]] = frozenset()
    model: nn.Module
    layers: dict[str, LowRankLayer]
    others: list[Tensor]
    in_backward: bool

    def direction_of_time(self, flow: str) -> int:
        """+1, or −1 for a flow that runs backward in time."""
        return 1

    def _layer_by_layer(self, closure: Closure | Sequence[Closure]) -> bool:
        """Whether a layer's flows need no more than its gradient in the one backward pass that runs."""
        one_pass = not self.new_points and (callable(closure) or len(closure or ()) == 1)
        return self.in_backward and one_pass and self.param_groups[0]["max_grad_norm"] is None

    def _whole_step(self, closure: Closure | Sequence[Closure]) -> Tensor:
        replay = Replay(self.model) if self.new_points else None
        loss, first = self._first_gradient(closure)
        steps = {name: self._begin(name, tape.Y) for name, tape in first.items() if tape.reached}
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
                    with full_precision(step.base.U.device):
                        self._move(step, flow, tapes[name])
                        self._end_flow(name, step, flow)
        except BaseException:
            for name, tape in first.items():
                self.layers[name].factors = tape.Y
            raise
        self._install(steps)
        return loss

    def _step_in_backward(self, closure: Closure | Sequence[Closure]) -> Tensor:
        """`_whole_step` with one gradient point, the flows of a layer running as soon as its gradient is known."""
        steps: dict[str, LayerStep] = {}

        def run(name: str, tape: Gradient) -> None:
            self._check_first_call(name, steps)
            with full_precision(tape.Y.U.device):
                steps[name] = step = self._begin(name, tape.Y)
                for flow in self.flows:
                    self._move(step, flow, tape)
                    self._end_flow(name, step, flow)
            tape.clear()  # all that the layer has kept for its flows

        loss, tapes = self._gradient(closure, run)
        for name, tape in tapes.items():
            if tape.reached:  # but by some of its calls only, as is known only now
                run(name, tape)
        self._install(steps)
        return loss

    def _begin(self, name: str, Y: Factors) -> LayerStep:
        return LayerStep(self._decayed(Y), min(Y.S.shape), self._moments(name))

    def _install(self, steps: dict[str, LayerStep]) -> None:
        for name, step in steps.items():
            self.layers[name].factors = step.base
            self._keep_moments(name, step)

    def _inner_step(self, closure: Closure | Sequence[Closure]) -> Tensor:
        """One gradient step of one flow; the flow ends after `inner_steps` of them, the step after its last flow."""
        group = self.param_groups[0]
        at, inner = divmod(group["phase"], group["inner_steps"])
        flow, ends = self.flows[at], inner + 1 == group["inner_steps"]
        steps: dict[str, LayerStep] = {}

        def run(name: str, tape: Gradient) -> None:
            self._check_first_call(name, steps)
            with full_precision(tape.Y.U.device):
                steps[name] = step = self._resume(name, at, ends)
                self._move(step, flow, tape)
                if ends:
                    self._end_flow(name, step, flow)
            tape.clear()

        within = self._layer_by_layer(closure)
        loss, tapes = self._gradient(closure, run) if within else self._first_gradient(closure)
        for name, tape in tapes.items():
            if name not in steps and (tape.reached or "cycle" in self.state[self.layers[name].S]):
                run(name, tape)
        for name, step in steps.items():
            layer = self.layers[name]
            self._keep_moments(name, step)
            with full_precision(layer.U.device):
                if ends and flow == self.flows[-1]:
                    layer.factors = step.base
                    del self.state[layer.S]["cycle"]
                elif not ends and "cycle" in self.state[layer.S]:
                    X = _held(layer, flow)
                    X.data = X.data + step.moved[flow]
                else:
                    self._suspend(layer, step, self.flows[at + ends])
        group["phase"] = (group["phase"] + 1) % (len(self.flows) * group["inner_steps"])
        return loss

    def _check_first_call(self, name: str, steps: dict[str, LayerStep]) -> None:
        if name in steps:
            raise ValueError(
                f"{name!r} is called again while the backward pass runs (by a checkpoint?): set in_backward=False"
            )

    def _first_gradient(self, closure: Closure | Sequence[Closure]) -> tuple[Tensor, dict[str, Gradient]]:
        loss, tapes = self._gradient(closure)
        max_norm = self.param_groups[0]["max_grad_norm"]
        if max_norm is not None:
            grads = [p.grad for p in self.others if p.grad is not None]
            with full_precision(loss.device):
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

    def _gradient(
        self, closure: Closure | Sequence[Closure], complete: Callable[[str, Gradient], None] | None = None
    ) -> tuple[Tensor, dict[str, Gradient]]:
        self.zero_grad()
        with recording(self.layers, complete) as tapes:
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

    def _move(self, step: LayerStep, flow: str, gradient: Gradient) -> None:
        """One explicit Euler step of a flow: the coefficients move by −h D."""
        if not gradient.reached:
            step.moved.setdefault(flow, torch.zeros_like(_coefficients(step.base, flow)))
            return
        U, _, V = step.base
        g = gradient.right(V) if flow == "K" else gradient.left(U) if flow == "L" else gradient.core(U, V)
        group = self.param_groups[0]
        D, step.moments[flow] = descent.direction(
            group["optimizer"], g, step.earlier.get(flow, {}), group["betas"], group["eps"]
        )
        by = -group["lr"] * self.direction_of_time(flow) * D
        step.moved[flow] = step.moved[flow] + by if flow in step.moved else by

    def _end_flow(self, name: str, step: LayerStep, flow: str) -> None:
        """Go on to the next flow's factors and carry the moments into their coordinates."""
        old = step.base
        try:
            step.base = getattr(self, f"after_{flow}")(step)
        except Divergence as error:
            raise Divergence(f"{name}: {error}", name) from error
        if step.base is old:
            return
        step.moved.clear()  # it is in the new factors
        later = self.flows[self.flows.index(flow) + 1 :]
        # Within a gradient point a basis only grows, by columns behind the old ones.
        grows, by_index = bool(later) and later[0] not in self.new_points, self.param_groups[0]["transport"] == "index"
        pending = [key for key in step.earlier if key not in step.moments]  # the others are replaced by the new ones
        step.earlier |= descent.carry(step.earlier, pending, old, step.base, grows, by_index)
        step.moments = descent.carry(step.moments, list(step.moments), old, step.base, grows, by_index)

    def _moments(self, name: str) -> dict[str, descent.Moments]:
        """The moments of K, L and S as the last step left them."""
        state = self.state[self.layers[name].S]
        return {flow: state[flow] for flow in self.flows if flow in state}

    def _keep_moments(self, name: str, step: LayerStep) -> None:
        new = {flow: moments for flow, moments in step.moments.items() if moments}  # sgd has none
        self.state[self.layers[name].S].update(step.earlier | new)

    def _reduce(self, name: str, Y: Factors) -> None:
        """Give a layer the factors Y, its own without some of the last columns, and its moments likewise."""
        layer, moments = self.layers[name], self._moments(name)
        self.state[layer.S].update(descent.carry(moments, list(moments), layer.factors, Y, grows=False, by_index=True))
        layer.factors = Y

    def _resume(self, name: str, at: int, ends: bool) -> LayerStep:
        """The layer's step as the last call left it; a layer first reached in a later flow has not moved before.

        How far the present flow has moved is known from what the layer holds, and asked for only when the flow `ends`.
        """
        layer, flow = self.layers[name], self.flows[at]
        parked = self.state[layer.S].get("cycle")
        if parked is not None:
            base = Factors(*(parked.get(factor, held) for factor, held in zip("USV", layer.factors, strict=True)))
            moved = {earlier: parked[f"moved_{earlier}"] for earlier in self.flows[:at] if f"moved_{earlier}" in parked}
            if ends:
                moved[flow] = _held(layer, flow).detach() - _coefficients(base, flow)
            return LayerStep(base, parked["rank"], self._moments(name), moved)
        step = self._begin(name, layer.factors)
        for earlier in self.flows[:at]:
            step.moved[earlier] = torch.zeros_like(_coefficients(step.base, earlier))
            self._end_flow(name, step, earlier)
        return step

    def _suspend(self, layer: LowRankLayer, step: LayerStep, flow: str) -> None:
        """Let the layer hold the flow's moving coefficients and the basis they are in; park what else is needed later.

        While K moves the layer holds K and V, while L moves U and L (abc-PSI, 2025, end of section 6.2).
        """
        U, S, V = step.base
        X = _coefficients(step.base, flow)
        X = X + step.moved.pop(flow) if flow in step.moved else X
        eye = torch.eye(S.shape[1 if flow == "K" else 0], dtype=S.dtype, device=S.device)
        layer.factors = {"K": Factors(X, eye, V), "L": Factors(U, eye, X), "S": Factors(U, X, V)}[flow]
        parked = {"K": {"U": U, "S": S}, "L": {"S": S, "V": V}, "S": {"S": S}}[flow]
        self.state[layer.S]["cycle"] = (
            parked | {"rank": step.rank} | {f"moved_{earlier}": x for earlier, x in step.moved.items()}
        )

    def _check_cycle(self) -> None:
        group = self.param_groups[0]
        if group["phase"] == 0:
            group["cycle_steps"] = group["inner_steps"]
        elif group["cycle_steps"] != group["inner_steps"]:
            raise ValueError(
                f"inner_steps cannot change from {group['cycle_steps']} to {group['inner_steps']} within a cycle: "
                "change it after a truncation, when param_groups[0]['phase'] is 0"
            )


def _held(layer: LowRankLayer, flow: str) -> nn.Parameter:
    """The coefficients that move in a suspended step."""
    return {"K": layer.U, "L": layer.V, "S": layer.S}[flow]


def _coefficients(Y: Factors, flow: str) -> Tensor:
    """K = U S, L = V Sᵀ or S."""
    return Y.U @ Y.S if flow == "K" else Y.V @ Y.S.mT if flow == "L" else Y.S
