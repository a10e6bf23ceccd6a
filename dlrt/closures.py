"""Running a closure: forward, backward, again with the same randomness, and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dlrt.errors import Divergence
from dlrt.tape import Gradient, armed

Closure = Callable[[], Tensor]


def gradient_pass(
    closure: Closure | Sequence[Closure], parameters: Sequence[Tensor], tapes: Mapping[str, Gradient] | None = None
) -> Tensor:
    """Run forward and backward of the closure, or of each micro-batch's closure in turn; return the (summed) loss.

    Args:
        parameters: those whose gradients the backward passes add to.
        tapes: those that record the backward passes.
    """
    closures = [closure] if callable(closure) else list(closure or ())
    if not closures or not all(callable(c) for c in closures):
        raise ValueError(f"step needs a closure that computes the loss, or a list of closures, got {closure!r}")
    losses = []
    with torch.enable_grad():
        for c in closures:
            before = _grad_versions(parameters)
            loss = c()
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise ValueError("the closure must return a scalar loss tensor that depends on the parameters")
            if _grad_versions(parameters) != before:
                raise ValueError("the closure must only compute the loss: step() itself calls backward")
            losses.append(loss.detach().reshape(()))
            try:
                with armed(tapes or {}):
                    loss.backward()
            except Divergence:  # of the flows within the pass: the loss, if it is the cause, says more
                _finite(losses)
                raise
    return _finite(losses)


def _finite(losses: list[Tensor]) -> Tensor:
    """The sum of the losses."""
    total = torch.stack(losses).sum()
    if not bool(total.isfinite()):
        raise Divergence(f"the loss is {total.item()}: lower the learning rate")
    return total


def _grad_versions(parameters: Sequence[Tensor]) -> list[tuple[int, int] | None]:
    return [None if p.grad is None else (id(p.grad), p.grad._version) for p in parameters]


class Replay:
    """Repeats the random numbers of a step's first pass in its later passes and keeps the first pass's buffers.

    Dropout masks are then those of the first gradient point, and running statistics are updated once per step.
    Covers torch's CPU and CUDA generators.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.start = _generator_states()

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within: a further pass of the same step."""
        end = _generator_states()
        buffers = [(m, k, b, b.clone()) for m in self.model.modules() for k, b in m._buffers.items() if b is not None]
        _set_generator_states(self.start)
        try:
            yield
        finally:
            _set_generator_states(end)
            for module, key, buffer, value in buffers:
                module._buffers[key] = buffer.copy_(value)


def _generator_states() -> list[Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _set_generator_states(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])


def clip_scale(tapes: Iterable[Gradient], grads: Iterable[Tensor], max_norm: float) -> Tensor | float:
    """Factor ≤ 1 that brings the joint norm of P(Y)G over all layers and of the other gradients to `max_norm`."""
    squares = [tape.tangent_norm2() for tape in tapes] + [grad.square().sum() for grad in grads]
    return (max_norm / torch.stack(squares).sum().sqrt()).clamp(max=1.0) if squares else 1.0
