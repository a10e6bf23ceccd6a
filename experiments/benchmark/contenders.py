"""What is timed against each other: the low-rank step, the dense one, and the one of separate passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dlrt
from dlrt.baselines import Dense
from experiments import models
from experiments.benchmark.cases import Case
from experiments.benchmark.memory import peak_bytes, storage_bytes
from experiments.benchmark.reference import SeparatePasses
from experiments.timing import Stopwatch
from experiments.timing_tasks import Batches

LR = 1e-3
GAIN = 0.7  # of the initial spectrum, as in conf/config.yaml


class Steps(Protocol):
    """An integrator, the dense optimiser or the separate passes."""

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """One training step; returns the loss before it."""
        ...


class Contender(Stopwatch):
    """A net, its optimiser, and the seconds of its steps: loss, hits, gradients, flows, truncation, updates."""

    def __init__(self, net: nn.Module, optimizer: Steps, precision: str, device: torch.device) -> None:
        super().__init__(net, self.train, device)
        self.optimizer, self.precision = optimizer, precision

    def train(self, batches: Batches) -> Tensor:
        """One step on each batch; returns the last one's loss."""
        with precision(self.precision):
            for x, y in batches:
                hits: list[Tensor] = []
                loss = self.optimizer.step(lambda x=x, y=y, hits=hits: self._loss(x, y, hits))  # type: ignore[misc]
        return loss

    def _loss(self, x: Tensor, y: Tensor, hits: list[Tensor]) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.net(x)
        hits.append((logits.argmax(1) == y).sum())
        return F.cross_entropy(logits.float(), y)

    def statistics(self) -> dict[str, Any]:
        """Median, quartiles, least and number of the seconds."""
        first, _, third = (
            quantiles(self.seconds, n=4, method="inclusive") if len(self.seconds) > 1 else self.seconds * 3
        )
        spread = {"median": median(self.seconds), "q1": first, "q3": third}
        return spread | {"least": min(self.seconds), "repeats": len(self.seconds)}

    def memory(self, batches: Batches) -> dict[str, int]:
        """Bytes of weights and optimiser state, and the peak of live bytes in one step, those included."""
        self.net.zero_grad(set_to_none=True)
        state = list(self._state())
        peak = peak_bytes(state, lambda: self.train(batches), self.device)
        return {"state_bytes": storage_bytes(state), "peak_bytes": peak}

    def _state(self) -> Iterator[Tensor]:
        yield from self.net.parameters()
        for values in getattr(self.optimizer, "state", {}).values():
            yield from (x for x in values.values() if isinstance(x, Tensor))


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


def dense_net(case: Case, seed: int) -> nn.Module:
    """The net of the case with plain torch layers."""
    torch.manual_seed(seed)
    return models.lenet5() if case.model == "lenet5" else models.mlp(width=case.width or 0)


def low_rank_net(case: Case, seed: int) -> nn.Module:
    """The net of the case with layers of its ranks."""
    net = dense_net(case, seed)
    layers = [name for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    rank = case.rank if isinstance(case.rank, int) else dict(zip(layers, case.rank, strict=True))
    return dlrt.factorize(net, rank=rank, init="orthonormal", gain=GAIN, skip=_dense_layers(case))


def _dense_layers(case: Case) -> list[str]:
    return [] if case.model == "lenet5" else ["output"]


def own(case: Case, seed: int, device: torch.device) -> Contender:
    """The low-rank step of the case, at fixed rank."""
    net = low_rank_net(case, seed).to(device)
    return Contender(net, dlrt.INTEGRATORS[case.integrator](net, lr=LR, tau=None), case.precision, device)


def dense(case: Case, precision: str, seed: int, device: torch.device) -> Contender:
    """The dense step of the case's net and batch."""
    net = dense_net(case, seed).to(device)
    return Contender(net, Dense(net, lr=LR), precision, device)


def separate(case: Case, seed: int, device: torch.device) -> Contender:
    """The step of separate passes at the case's ranks and precision."""
    net = low_rank_net(case, seed).to(device)
    return Contender(net, SeparatePasses(net, lr=LR), case.precision, device)
