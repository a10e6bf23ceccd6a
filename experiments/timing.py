"""Timing cells: training steps or predictions of a network, and of the dense one in turn (DLRT, 2022, Tables 3, 4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from itertools import chain, islice
from statistics import fmean, median, stdev
from typing import Any

import torch
from torch import nn

from dlrt import Divergence
from experiments import build
from experiments.data import Splits
from experiments.structure import final_structure
from experiments.timing_tasks import TASKS, Batches, Work, inputs_of


class Stopwatch:
    """A network and the seconds that each of its works took: a training step or a prediction, as the task says."""

    def __init__(self, net: nn.Module, work: Work, device: torch.device, free: int = 0) -> None:
        self.net, self.work, self.device = net, work, device
        self.free = free  # bytes of the device's memory in use before the net came
        self.seconds: list[float] = []
        self.loss, self.images = math.nan, 0
        self.peak_bytes: int | None = None

    def time(self, batches: Batches) -> None:
        """Do the work once; its seconds include all that it has left to the device."""
        _synchronize(self.device)
        start = time.perf_counter()
        loss = self.work(batches)
        _synchronize(self.device)
        self.seconds.append(time.perf_counter() - start)
        self.loss, self.images = loss.item(), sum(len(y) for _, y in batches)

    def warm_up(self, inputs: Iterable[Batches]) -> None:
        """Do the work on each of `inputs` without keeping the times; on a GPU, note its peak of memory."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        for batches in inputs:
            self.time(batches)
        self.seconds = []
        if self.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device) - self.free

    def statistics(self) -> dict[str, Any]:
        """Mean, sample deviation (None of a single time) and median of the seconds, their number, peak memory."""
        return {
            "seconds_mean": fmean(self.seconds),
            "seconds_std": stdev(self.seconds) if len(self.seconds) > 1 else None,
            "seconds_median": median(self.seconds),
            "repeats": len(self.seconds),
            "peak_bytes": self.peak_bytes,
        }


def measure(
    config: dict[str, Any], data: Splits, device: torch.device, check: Callable[[], object] = lambda: None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record's "final" of a timing cell, and what it measured, for the record's "timing".

    Measured are `Stopwatch.statistics` of the net and, as `dense_…`, of the dense net of the same shape, timed in
    the same process at every `reference_every`-th repeat, and `ratio`, of the medians; without `dense_…` and `ratio`
    if the net is dense itself. The peak of memory is that of one net: its weights and what its work needs. `check` is
    called before each measurement, and may raise.

    Raises:
        Divergence: a loss is not finite.
    """
    timing, inputs = config["timing"], inputs_of(config, data)
    sample = next(inputs)
    inputs = chain([sample], inputs)
    own = _stopwatch(config, device, sample)
    own.warm_up(islice(inputs, timing["warmup"]))
    reference = None
    if dense(config) != config:
        reference = _stopwatch(dense(config), device, sample)
        reference.warm_up(islice(inputs, timing["warmup"]))
    for i, batches in enumerate(islice(inputs, timing["repeats"])):
        check()
        own.time(batches)
        if reference is not None and i % timing["reference_every"] == 0:
            reference.time(batches)
    return _final(own), _compared(own, reference)


def _stopwatch(config: dict[str, Any], device: torch.device, sample: Batches) -> Stopwatch:
    free = _allocated(device)
    net = build.model(config).to(device)
    return Stopwatch(net, TASKS[config["task"]](net, config, sample), device, free)


def _final(own: Stopwatch) -> dict[str, Any]:
    if not math.isfinite(own.loss):
        raise Divergence(f"the loss is {own.loss}: the network's outputs are not finite")
    unused = dict.fromkeys(("epoch", "selected_by", "val_accuracy", "test_accuracy"))
    return unused | {"loss": own.loss, "images": own.images} | final_structure(own.net)


def _compared(own: Stopwatch, reference: Stopwatch | None) -> dict[str, Any]:
    measured = own.statistics()
    if reference is None:
        return measured
    ratio = median(own.seconds) / median(reference.seconds)
    return measured | {f"dense_{key}": value for key, value in reference.statistics().items()} | {"ratio": ratio}


def dense(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the dense reference: the same net, rule and rate, nothing factorised, adapted or frozen."""
    return config | {"integrator": config["integrator"] | {"name": "dense"}, "adapters": None}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
