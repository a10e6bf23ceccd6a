"""Where the time of a step goes: its phases by the clock, and on a GPU how long no kernel runs."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from statistics import median
from typing import Any
from unittest import mock

import pandas as pd
import torch
from torch import Tensor
from torch.autograd import DeviceType

from dlrt import linalg
from dlrt.tape import Gradient, MatrixGradient
from experiments.benchmark import contenders, inputs
from experiments.benchmark.cases import Case
from experiments.benchmark.contenders import Contender
from experiments.benchmark.rows import method
from experiments.render import show as show_table
from experiments.timing_tasks import Batches

STEPS, WARMUP = 10, 2
OTHER = "other: flows' sums, copies, optimiser"
BACKWARD = "backward"
GAPS = "no kernel running"


class Clock:
    """Seconds by phase; a phase within another one is part of it, but not of the backward pass, where flows run."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.inside = device, defaultdict[str, float](float), OTHER
        self.last = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Within: the seconds are those of `name`."""
        outer = self.inside
        if outer not in (OTHER, BACKWARD):
            yield
            return
        self.tick()
        self.inside = name
        try:
            yield
        finally:
            self.tick()
            self.inside = outer

    def tick(self) -> None:
        """Give the present phase the seconds since the last tick, those of the device included."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[self.inside] += now - self.last
        self.last = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as part of a phase."""

        def inner(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return inner


PHASES: dict[str, list[tuple[object, str]]] = {
    "forward, loss, hits": [(Contender, "loss_on")],
    BACKWARD: [(Tensor, "backward"), (torch.autograd, "grad")],
    "gradient products": [(kind, name) for kind in (Gradient, MatrixGradient) for name in ("right", "left", "core")],
    "orthonormalisation": [(linalg, "complement"), (linalg, "orthonormalize"), (torch.linalg, "qr")],
    "truncation": [(linalg, name) for name in ("truncate", "truncate_product")],
}


@contextmanager
def patched(clock: Clock) -> Iterator[None]:
    """Within: the functions of `PHASES` tell the clock, also in the modules that have imported them by name."""
    with ExitStack() as stack:
        for phase, places in PHASES.items():
            for owner, name in places:
                function = getattr(owner, name)
                timed = clock.timed(phase, function)
                for holder in (owner, *_importers(function, name)):
                    stack.enter_context(mock.patch.object(holder, name, timed))
        yield


def _importers(function: Callable[..., Any], name: str) -> list[object]:
    modules = [module for key, module in sys.modules.items() if key.startswith(("dlrt.", "experiments.benchmark."))]
    return [module for module in modules if getattr(module, name, None) is function]


def phases(contender: Contender, batches: Sequence[Batches]) -> dict[str, float]:
    """Median seconds of a step by phase, and under "step" those of the whole step without the clock."""
    steps, whole = [], []
    contender.warm_up(islice(cycle(batches), WARMUP))
    for work in islice(cycle(batches), STEPS):
        clock = Clock(contender.device)
        with patched(clock):
            clock.last = time.perf_counter()
            contender.train(work)
            clock.tick()
        steps.append(clock.seconds)
        contender.time(work)
        whole.append(contender.seconds.pop())
    return {name: median(step[name] for step in steps) for name in (*PHASES, OTHER)} | {"step": median(whole)}


def kernel_gaps(contender: Contender, batches: Sequence[Batches]) -> float:
    """Seconds of a step in which the GPU runs no kernel: those of the step without the profiler minus the kernels'."""
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    contender.time(batches[0])
    with torch.profiler.profile(activities=activities) as profiler:
        contender.time(batches[0])
    events = [event for event in profiler.key_averages() if event.device_type == DeviceType.CUDA]
    kernels = sum(event.self_device_time_total for event in events if not event.is_user_annotation)  # µs
    return max(0.0, contender.seconds[-2] - 1e-6 * kernels)


def show(cases: Sequence[Case], seed: int, device: torch.device) -> None:
    """Prints the phases of each case's step, of separate passes if it has them, and of the dense one."""
    for case in cases:
        batches = inputs.batches(inputs.images(case, seed, device), case.batch)
        named = {method(case): contenders.own(case, seed, device)}
        if case.reference:
            named["separate passes"] = contenders.separate(case, seed, device)
        named["dense"] = contenders.dense(case, case.dense[0], seed, device)
        columns = {name: _column(contender, batches) for name, contender in named.items()}
        text = pd.DataFrame(columns).rename_axis("ms").reset_index().astype(str)
        show_table(text, f"{case.label}, batch {case.batch}, rank {case.ranks}, {case.precision}", _LINES)


_LINES = [
    "ms: medians of 10 steps, with the share of their sum; step: the whole one without the clock of the phases, which "
    "on a GPU waits for the device at their borders."
]


def _column(contender: Contender, batches: Sequence[Batches]) -> dict[str, str]:
    seconds = phases(contender, batches)
    step = seconds.pop("step")
    total = sum(seconds.values())
    text = {name: f"{1000 * t:.2f} ({t / total:.0%})" for name, t in seconds.items()} | {"step": f"{1000 * step:.2f}"}
    if contender.device.type == "cuda":
        gaps = kernel_gaps(contender, batches)
        text[GAPS] = f"{1000 * gaps:.2f} ({gaps / step:.0%} of the step)"
    return text
