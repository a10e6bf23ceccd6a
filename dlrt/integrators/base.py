"""What all integrators share: a step is a sequence of K-, L- and S-flows.

A flow moves one coefficient matrix of every layer along its gradient, the bases held fixed:

    flow   moves Y to          by dX = −h times     from
    K      (U S + dK) Vᵀ       G V                  K(t₀) = U S
    L      U (V Sᵀ + dL)ᵀ      Gᵀ U                 L(t₀) = V Sᵀ
    S      U (S + dS) Vᵀ       Uᵀ G V               S(t₀) = S

An integrator names its flows, says which of them start at a new point (all others start at Y₀ and share its one
gradient), and says in `after_K`, `after_L`, `after_S` what the factors are when the flow has ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dlrt.closures import Closure
from dlrt.engine import Engine, LayerStep
from dlrt.errors import Divergence
from dlrt.factors import Factors
from dlrt.linalg import truncate
from dlrt.options import BaseOptimizer, base_factory, check_base_lr, check_options
from dlrt.surgery import low_rank_layers


class Integrator(Engine):
    """A low-rank integrator as a torch optimiser: it trains the low-rank layers of a model, and all else with them.

    Args:
        model: holds at least one low-rank layer (see `dlrt.factorize`).
        lr: step size h.
        tau: relative truncation tolerance τ in [0, 1); None keeps the rank. Rank-adaptive integrators only.
        min_rank, max_rank: bounds of the rank that the truncation chooses; None is no bound.
        rank_budget: the ranks of all layers add up to at most this: after a truncation the smallest singular values of
            all of them go. With tau=None the ranks adapt within it. Rank-adaptive integrators only.
        optimizer: rule for the coefficients K, L and S: "sgd", "momentum" (β₁), "adam" or "adamw", which is adam with
            `decay` as the weight decay of the other parameters, too.
        decay: λ ≥ 0: S ← (1 − hλ) S at the start of a step, the gradient being taken before. That is decoupled weight
            decay of Y.
        base_optimizer: function from the list of all other parameters to the torch optimiser that steps them, e.g.
            `functools.partial(torch.optim.AdamW, lr=1e-3)`; None: the same rule as the coefficients.
        base_lr: its learning rate without a base_optimizer; None: lr. Biases and a new classifier may want another than
            coefficients in orthonormal bases.
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
        in_backward: run a layer's flows within the backward pass, as soon as it has come by the layer, and free there
            what is kept for them: inputs, cotangents, xV, δU. The result is the same to the last bit, sooner and in
            less memory. Steps that cannot (several gradient points, several closures, clipping) run
            their flows after the pass, as all do with False, which a layer shared by re-entrant checkpoints needs. Not
            part of `state_dict`.

    Parameter group 0 holds the factors; the base optimiser's own groups follow (one, unless it makes more) with all
    other parameters, so that schedulers reach both. The rules' moments and the base optimiser's state are in `state`.
    A low-rank layer with a frozen factor is left alone; factors that are not orthonormal, because another optimiser
    has trained them, are made so, the weight unchanged.

    Raises:
        ValueError: an option out of range, no low-rank layer to train, τ for an integrator of fixed rank.
        Divergence: from `step`, when the loss or a factor is not finite.
    """

    rank_adaptive: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        tau: float | None = None,
        min_rank: int = 1,
        max_rank: int | None = None,
        rank_budget: int | None = None,
        optimizer: str = "sgd",
        decay: float = 0.0,
        base_optimizer: BaseOptimizer | None = None,
        base_lr: float | None = None,
        inner_steps: int = 1,
        transport: str = "project",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        max_grad_norm: float | None = None,
        in_backward: bool = True,
    ) -> None:
        options: dict[str, Any] = dict(lr=lr, tau=tau, min_rank=min_rank, max_rank=max_rank, rank_budget=rank_budget)
        options |= dict(optimizer=optimizer, decay=decay, inner_steps=inner_steps)
        options |= dict(transport=transport, max_grad_norm=max_grad_norm)
        check_options(**options)
        check_base_lr(base_lr, base_optimizer)
        for key in ("tau", "rank_budget"):
            if options[key] is not None and not self.rank_adaptive:
                name = type(self).__name__
                raise ValueError(f"{name} keeps its rank and takes no {key}, got {options[key]}: leave {key}=None")
        if not isinstance(model, nn.Module):
            raise ValueError(f"an integrator takes the model itself, not its parameters, got {type(model).__name__}")
        self.model, self.in_backward = model, in_backward
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
        make_base = base_factory(base_optimizer, optimizer, lr if base_lr is None else base_lr, betas, eps, decay)
        self.base = make_base(self.others) if self.others else None
        if self.base is not None:
            for group in self.base.param_groups:
                group.setdefault("betas", betas)  # schedulers that cycle the momentum look for it in every group
                self.param_groups.append(group)
        self._share_state()
        if rank_budget is not None:
            self._begin_budget()

    @property
    def passes(self) -> int:
        """Forward/backward passes of one step (with inner_steps = 1)."""
        return 1 + len(self.new_points)

    @property
    def cycle(self) -> int:
        """Calls of `step` from one truncation to the next."""
        inner = self.param_groups[0]["inner_steps"]
        return 1 if inner == 1 else inner * len(self.flows)

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
        if self.param_groups[0]["inner_steps"] > 1:
            loss = self._inner_step(closure)
        else:
            loss = self._step_in_backward(closure) if self._layer_by_layer(closure) else self._whole_step(closure)
        if self.param_groups[0]["rank_budget"] is not None and self.param_groups[0]["phase"] == 0:
            self._keep_to_budget()
        sums = torch.stack([layer.S.sum() for layer in self.layers.values()]).tolist()  # one synchronisation
        for name, total in zip(self.layers, sums, strict=True):
            if not math.isfinite(total):
                raise Divergence(f"the coefficients of {name} are not finite: lower the learning rate", name)
        if self.base is not None:
            self.base.step()
        return loss

    def _bounds(self, rank: int) -> dict[str, Any]:
        """What the truncation goes by: τ and the bounds of the rank, or, without τ, the old rank, or the budget."""
        group = self.param_groups[0]
        if group["tau"] is None and group["rank_budget"] is None:
            return {"tau": None, "max_rank": rank}
        return {"tau": group["tau"] or 0.0, "min_rank": group["min_rank"], "max_rank": group["max_rank"]}

    def _begin_budget(self) -> None:
        """Check the budget of ranks and bring the cores to the diagonal form that truncations leave."""
        budget, least = (self.param_groups[0][key] for key in ("rank_budget", "min_rank"))
        if budget < least * len(self.layers):
            raise ValueError(
                f"rank_budget={budget} is less than min_rank={least} for each of the {len(self.layers)} low-rank "
                "layers: raise it or lower min_rank"
            )
        for layer in self.layers.values():
            layer.factors = truncate(layer.factors, tau=None, max_rank=layer.rank)

    def _keep_to_budget(self) -> None:
        """Drop the smallest singular values of all layers together, as many as exceed the budget of ranks."""
        group = self.param_groups[0]
        excess = sum(layer.rank for layer in self.layers.values()) - group["rank_budget"]
        if excess <= 0:
            return
        spectra = [layer.S.diagonal()[group["min_rank"] :] for layer in self.layers.values()]
        of_layer = torch.cat([torch.full_like(sigma, i, dtype=torch.long) for i, sigma in enumerate(spectra)])
        dropped = of_layer[torch.cat(spectra).argsort()[:excess]].bincount(minlength=len(spectra))
        for (name, layer), count in zip(self.layers.items(), dropped.tolist(), strict=True):
            if count:
                kept = layer.rank - count  # σ descend: what goes are the last columns
                U, S, V = layer.factors
                self._reduce(name, Factors(U[:, :kept], S[:kept, :kept], V[:, :kept]))

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
        self.param_groups[0].setdefault("rank_budget", None)  # a state saved before there were budgets
        self._share_state()

    def __getstate__(self) -> dict[str, Any]:
        """For copy.deepcopy of an integrator together with its model."""
        own = {key: vars(self)[key] for key in ("model", "layers", "others", "base", "in_backward")}
        return super().__getstate__() | own

    def _share_state(self) -> None:
        # The base optimiser works on the integrator's own group and state: one state_dict holds everything.
        if self.base is not None:
            self.base.param_groups = self.param_groups[1:]
            self.base.state = self.state
