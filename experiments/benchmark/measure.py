"""The measurement: all steps of one net and batch in turn, in one process, so that ratios bear a busy machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import torch

from dlrt import Divergence
from experiments.benchmark import contenders, held
from experiments.benchmark.cases import Case
from experiments.benchmark.contenders import Contender
from experiments.benchmark.floor import dense as dense_operations
from experiments.benchmark.floor import floor, shapes_of
from experiments.timing_tasks import Batches

WARMUP, TRIALS = 2, 2  # steps that nothing is made of, and steps whose shortest says how often to time
SHORT, IN_A_ROW = 0.1, 3  # seconds; a shorter step is timed three times in a row, after one that is not
MIN_ROUNDS = 5

Measured = dict[str, Any]


def measure(
    cases: Sequence[Case],
    inputs: Sequence[Batches],
    seed: int,
    seconds: float,
    rounds: int | None,
    device: torch.device,
) -> Iterator[tuple[Case, Measured]]:
    """Time the steps of `cases`, which share net and batch, and yield what was measured of each.

    Args:
        inputs: batches, one per step, repeated as often as needed.
        seconds: about as much time per case; the number of rounds follows from it.
        rounds: if given, that number.

    Raises:
        Divergence: a loss is not finite.
    """
    timed = _contenders(cases, seed, device)
    turn = cycle(inputs)
    for contender in timed.values():
        contender.warm_up([next(turn) for _ in range(WARMUP)])
    once = {name: _seconds(contender, turn) for name, contender in timed.items()}
    if rounds is None:
        round_seconds = sum(t * (1 if t > SHORT else IN_A_ROW + 1) for t in once.values())
        rounds = max(MIN_ROUNDS, round(seconds * len(cases) / round_seconds))
    for _ in range(rounds):
        for name, contender in timed.items():
            _take_turn(contender, once[name], turn, math.ceil(contender.cycle / rounds))
    brief = {own_key(case): contenders.brief(case, seed, device, next(turn)) for case in cases if case.inner_steps > 1}
    figures = {name: _figures(contender, brief.get(name, contender), next(turn)) for name, contender in timed.items()}
    for case in cases:
        own = timed[own_key(case)]
        measured = _compared(case, figures) | {"floor": _floor(case, own, inputs[0])}
        if case.fine_tunes and isinstance(case.rank, int):
            measured["held"] = held.phases(brief.get(own_key(case), own), inputs[0], case.rank)
        yield case, measured


def own_key(case: Case) -> tuple[Any, ...]:
    """The key of the case's own step among those timed."""
    return "own", *case.step


def _contenders(cases: Sequence[Case], seed: int, device: torch.device) -> dict[tuple[Any, ...], Contender]:
    timed: dict[tuple[Any, ...], Contender] = {}
    for case in cases:
        for precision in case.dense:
            if ("dense", precision) not in timed:
                timed["dense", precision] = contenders.dense(case, precision, seed, device)
    for case in cases:
        timed[own_key(case)] = contenders.own(case, seed, device)
        key = ("reference", case.rank, case.precision)
        if case.reference and key not in timed:
            timed[key] = contenders.separate(case, seed, device)
    return timed


def _seconds(contender: Contender, turn: Iterator[Batches]) -> float:
    for _ in range(TRIALS):
        contender.time(next(turn))
    once, contender.seconds = min(contender.seconds), []
    return once


def _take_turn(contender: Contender, once: float, turn: Iterator[Batches], least: int) -> None:
    """At least so many steps. In training a step finds its net in the cache, as one of the same net came before it."""
    if once <= SHORT:
        contender.train(next(turn))
    for _ in range(max(least, 1 if once > SHORT else IN_A_ROW)):
        contender.time(next(turn))


def _figures(contender: Contender, brief: Contender, batches: Batches) -> dict[str, Any]:
    if not math.isfinite(contender.loss):
        raise Divergence(f"the loss is {contender.loss}: what was timed is no training")
    return contender.statistics() | brief.memory(batches) | {"loss": contender.loss}


def _compared(case: Case, figures: dict[tuple[Any, ...], dict[str, Any]]) -> Measured:
    own, dense = figures[own_key(case)], figures["dense", case.dense[0]]
    reference = figures.get(("reference", case.rank, case.precision)) if case.reference else None
    return {
        "own": own,
        "dense": {precision: figures["dense", precision] for precision in case.dense},
        "reference": reference,
        "ratio": own["median"] / dense["median"],
        "speedup": None if reference is None else reference["median"] / own["median"],
        "state_ratio": own["state_bytes"] / dense["state_bytes"],
        "peak_ratio": own["peak_bytes"] / dense["peak_bytes"],
    }


def _floor(case: Case, contender: Contender, batches: Batches) -> dict[str, float] | None:
    if case.fine_tunes or case.inner_steps > 1:
        return None
    shapes = shapes_of(contender.net, batches[0][0])
    parts, dense = floor(shapes, case.integrator), sum(map(dense_operations, shapes))
    if parts is None:
        return None
    return vars(parts) | {"total": parts.total, "dense": dense, "ratio": parts.total / dense}
