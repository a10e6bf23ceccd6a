"""Run records built to the record's specification, without training: the input of the tests of tables and figures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from experiments.collection import Collection
from experiments.presets import Preset
from experiments.records import Store, key_of, name_of
from experiments.references import Cell

LAYERS = {"0": [500, 784], "2": [500, 500], "4": [500, 500], "6": [500, 500], "8": [10, 500]}
DENSE_PARAMS = 1_147_000


def config(method: str, tau: float | None = None, seed: int = 0, **extra: Any) -> dict[str, Any]:
    return {
        "integrator": {"name": method, "decay": 0.005},
        "model": {"name": "mlp5_500", "skip": ["output"]},
        "data": {"name": "mnist"},
        "trainer": {"epochs": 3, "lr": 0.2},
        "task": "train",
        "tau": tau,
        "rank": 120,
        "weights": None,
        "seed": seed,
    } | extra


def final(accuracy: float, rank: int | None) -> dict[str, Any]:
    ranks = {} if rank is None else {layer: rank for layer in LAYERS if layer != "8"}
    low_rank = sum(rank * sum(LAYERS[layer]) for layer, rank in ranks.items())
    params = low_rank + 5000 if ranks else DENSE_PARAMS
    return {
        "epoch": 3,
        "selected_by": "val_accuracy",
        "val_accuracy": accuracy,
        "test_accuracy": accuracy,
        "ranks": ranks,
        "shapes": LAYERS,
        "eval_params": params,
        "train_params": 2 * params,
        "dense_params": DENSE_PARAMS,
        "compression": 1 - params / DENSE_PARAMS,
        "train_compression": 1 - 2 * params / DENSE_PARAMS,
        "params_low_rank": low_rank,
    }


def record(
    method: str, tau: float | None = None, seed: int = 0, accuracy: float = 0.97, rank: int | None = 20,
    status: str = "done", **extra: Any,
) -> dict[str, Any]:  # fmt: skip
    """A record whose four low-rank layers end at `rank` (None: a dense run)."""
    done = status == "done"
    ranks = [{} if rank is None else dict.fromkeys(["0", "2", "4", "6"], rank + grown) for grown in (60, 20, 0)]
    history = [
        {"epoch": epoch, "loss": 1 / epoch, "ranks": layers,
         "singular_values": {layer: [1.0] * r for layer, r in layers.items()}}
        for epoch, layers in enumerate(ranks, start=1)
    ]  # fmt: skip
    run = config(method, tau, seed, **extra)
    return {
        "schema": 1,
        "key": key_of(run),
        "name": name_of(run),
        "status": status,
        "config": run,
        "history": history,
        "final": final(accuracy, rank) if done else None,
        "error": None if done else {"kind": "Divergence", "message": "loss is not finite", "layer": None},
        "timing": {"started": "2026-01-01T00:00:00Z", "seconds": 60.0 + seed},
        "provenance": {
            "commit": "abcdef0123456789",
            "dirty": False,
            "device": "cpu: Test",
            "versions": {"torch": "2.11"},
        },
    }


def preset_of(records: Sequence[dict[str, Any]], **fields: Any) -> Preset:
    """A preset whose cells are the runs of `records`."""
    cells = [Cell(record["key"], record["config"], ()) for record in records]
    return Preset(
        **{"name": "demo", "title": "A title", "cells": cells, "table": {}, "figures": [], "unresolved": 0} | fields
    )


def collection_of(records: Sequence[dict[str, Any]], **fields: Any) -> Collection:
    """The complete records of a preset."""
    return Collection(preset_of(records, **fields), (), list(records), Path("runs/records"))


@contextmanager
def recorded(preset: Preset, records: Sequence[dict[str, Any]], results_dir: Path) -> Iterator[None]:
    """`presets.load` returns `preset`, and `results_dir` holds `records`."""
    for record in records:
        Store(results_dir).write(record)
    with mock.patch("experiments.presets.load", lambda name, overrides=(), store=None: preset):
        yield
