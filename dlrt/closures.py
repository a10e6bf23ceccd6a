"""Running a closure: forward, backward, again with the same randomness, and gradient clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dlrt.errors import Divergence
from dlrt.tape import Gradient

Closure = Callable[[], Tensor]


def gradient_pass(closure: Closure | Sequence[Closure]) -> Tensor:
    """Run forward and backward of the closure, or of each micro-batch's closure in turn; return the (summed) loss."""
    closures = [closure] if callable(closure) else closure
    if not closures or not all(callable(c) for c in closures):
        raise ValueError(f"step needs a closure that computes the loss, or a list of closures, got {closure!r}")
    with torch.enable_grad():
        total = torch.stack([_backward(c()) for c in closures]).sum()
    if not bool(total.isfinite()):
        raise Divergence(f"the loss is {total.item()}: lower the learning rate")
    return total


def _backward(loss: Tensor) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ValueError("the closure must return a scalar loss tensor that depends on the parameters")
    try:
        loss.backward()
    except RuntimeError as error:
        if "second time" in str(error):
            raise ValueError("the closure must only compute the loss: step() itself calls backward") from error
        raise
    return loss.detach().reshape(())


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
        end, buffers = _generator_states(), [(b, b.clone()) for b in self.model.buffers()]
        _set_generator_states(self.start)
        try:
            yield
        finally:
            _set_generator_states(end)
            for buffer, value in buffers:
                buffer.copy_(value)


def _generator_states() -> list[Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def _set_generator_states(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])


def clip_scale(tapes: Iterable[Gradient], grads: Iterable[Tensor], max_norm: float) -> Tensor:
    """Factor ≤ 1 that brings the joint norm of P(Y)G over all layers and of the other gradients to `max_norm`."""
    squares = [tape.tangent_norm2() for tape in tapes] + [grad.square().sum() for grad in grads]
    return (max_norm / torch.stack(squares).sum().sqrt()).clamp(max=1.0)
