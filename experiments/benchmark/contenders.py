"""What is timed against each other: the case's own step, the dense net's, and the one of separate passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.benchmark import nets
from experiments.benchmark.cases import Case
from experiments.benchmark.memory import peak_bytes, storage_bytes, tensors_in
from experiments.benchmark.nets import Steps
from experiments.benchmark.reference import SeparatePasses
from experiments.timing import Stopwatch
from experiments.timing_tasks import Batches

BRIEF = 3  # inner_steps of which one neither begins nor ends a flow


class Contender(Stopwatch):
    """A net, its optimiser, and the seconds of its steps: loss, hits, gradients, flows, truncation, updates."""

    def __init__(self, net: nn.Module, optimizer: Steps, precision: str, device: torch.device) -> None:
        super().__init__(net, self.train, device)
        self.optimizer, self.precision = optimizer, precision

    @property
    def cycle(self) -> int:
        """Steps after which all is as before: more than 1 with inner_steps."""
        return getattr(self.optimizer, "cycle", 1)

    def train(self, batches: Batches) -> Tensor:
        """One step on each batch; returns the last one's loss."""
        with precision(self.precision):
            for x, y in batches:
                loss = self.optimizer.step(lambda x=x, y=y: self.loss_on(x, y))  # type: ignore[misc]
        return loss

    def loss_on(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of a batch; counts the hits, too."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.net(x)
        self.hits = (logits.argmax(1) == y).sum()
        return F.cross_entropy(logits.float(), y)

    def statistics(self) -> dict[str, Any]:
        """Median, quartiles, least and number of the seconds."""
        first, _, third = (
            quantiles(self.seconds, n=4, method="inclusive") if len(self.seconds) > 1 else self.seconds * 3
        )
        spread = {"median": median(self.seconds), "q1": first, "q3": third}
        return spread | {"least": min(self.seconds), "repeats": len(self.seconds)}

    def memory(self, batches: Batches) -> dict[str, int]:
        """Bytes of weights and optimiser state, and the peak of live bytes in one step, those included: the most of
        any step of a cycle."""
        found = [self._memory(batches) for _ in range(self.cycle)]
        return {key: max(step[key] for step in found) for key in found[0]}

    def _memory(self, batches: Batches) -> dict[str, int]:
        self.net.zero_grad(set_to_none=True)
        state = list(self.state(self.net.parameters()))
        size = storage_bytes(state)  # the step may give the parameters other storages
        return {"state_bytes": size, "peak_bytes": peak_bytes(state, lambda: self.train(batches), self.device)}

    def state(self, parameters: Iterable[nn.Parameter]) -> Iterator[Tensor]:
        """Some of the net's parameters and all that the optimiser keeps for them."""
        kept = getattr(self.optimizer, "state", {})
        for parameter in parameters:
            yield parameter
            yield from tensors_in(kept.get(parameter))


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Within: products of fp32 matrices in full precision, or with name "tf32" in TensorFloat-32 where a GPU has it.

    "bf16" is autocast over the forward pass (`Contender`): the network's products alone.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def own(case: Case, seed: int, device: torch.device) -> Contender:
    """The step of the case, at fixed rank."""
    net = nets.trained_net(case, seed).to(device)
    return Contender(net, nets.integrator(case, net), case.precision, device)


def brief(case: Case, seed: int, device: torch.device, batches: Batches) -> Contender:
    """The step of the case with few inner steps, one cycle done: what it holds in a flow does not depend on their
    number."""
    contender = own(replace(case, inner_steps=BRIEF), seed, device)
    for _ in range(contender.cycle):
        contender.train(batches)
    return contender


def dense(case: Case, precision: str, seed: int, device: torch.device) -> Contender:
    """The step of all dense weights of the case's net, on its batch."""
    net = nets.dense_net(case, seed).to(device)
    return Contender(net, nets.dense_optimizer(case, net), precision, device)


def separate(case: Case, seed: int, device: torch.device) -> Contender:
    """The step of separate passes at the case's ranks and precision."""
    net = nets.trained_net(case, seed).to(device)
    return Contender(net, SeparatePasses(net, lr=nets.LR), case.precision, device)
