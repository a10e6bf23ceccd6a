"""From run records to the rows of a table: one row per configuration, statistics over its seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from experiments.records import bare

DISPLAY_NAMES = {
    "psi": "PSI",
    "bc_psi": "bc-PSI",
    "abc_psi": "abc-PSI",
    "bug": "BUG (fixed rank)",
    "aug_bug": "aug. BUG (DLRT)",
    "parallel_bug": "parallel BUG",
    "dense": "dense",
    "svd_factor": "SVD factors",
    "lora": "LoRA",
    "adalora": "AdaLoRA",
}
# What a row averages, as it stands in the records' `final`.
_FINAL = ["eval_params", "train_params", "dense_params", "compression", "train_compression", "params_low_rank"]
_ACCURACIES = ["accuracy", "val_accuracy", "start_accuracy"]
_MEANS = [*_ACCURACIES, *_FINAL, "compression_low_rank", "best_epoch", "epochs", "seconds"]

Record = dict[str, Any]


def aggregate(records: Iterable[Record], missing: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    """Returns one row per configuration without its seed, a method's rows together, else in order of appearance.

    `n`, `diverged`, `failed` and `missing` count its runs: only the `n` that finished enter the means; the
    `missing` are those of the configs in `missing` and preempted ones. Means over the seeds: `accuracy` (of the
    test data; NaN for tuning runs), `val_accuracy`, `start_accuracy` (of the test data, before the training of a run
    that starts from `weights`) and the compressions as fractions; `eval_params`, `train_params`, `dense_params`;
    `params_low_rank` and `compression_low_rank`, abc-PSI's count of the low-rank layers only; `ranks`, a dict from
    layer to mean rank; `epochs` trained, `best_epoch`, `seconds`. `accuracy_std`, `val_accuracy_std` and
    `start_accuracy_std` are sample deviations (n - 1), NaN for n = 1. `rank` is that of a fixed-rank run,
    `lr` the learning rate, `output_dense` whether some layer stays dense, `config` the configuration.
    """
    groups: dict[str, list[Record]] = {}
    for record in [*records, *({"config": config, "status": "missing"} for config in missing)]:
        groups.setdefault(group_key(record["config"]), []).append(record)
    rows = pd.DataFrame([_row(group) for group in groups.values()]).astype({"tau": float, "rank": float})
    order = {method: place for place, method in enumerate(rows["method"].unique())}
    return rows.sort_values("method", key=lambda method: method.map(order), kind="stable", ignore_index=True)


def group_key(config: dict[str, Any]) -> str:
    """Returns the same text for the runs that differ in nothing but their seed."""
    return json.dumps(_shared(config), sort_keys=True)


def _shared(config: dict[str, Any]) -> dict[str, Any]:
    # `weights` names the record a run starts from, which has a seed of its own.
    return {key: value for key, value in bare(config).items() if key not in ("seed", "weights")}


def _row(records: list[Record]) -> dict[str, Any]:
    config = records[0]["config"]
    statuses = [record["status"] for record in records]
    done = [record for record in records if record["status"] == "done"]
    means = pd.DataFrame([_figures(record) for record in done], columns=_MEANS, dtype=float)
    layers = done[0]["final"]["ranks"] if done else {}
    row: dict[str, Any] = {
        "method": config["integrator"]["name"],
        "model": config["model"]["name"],
        "data": config["data"]["name"],
        "tau": config["tau"],
        "rank": config["rank"] if config["tau"] is None else None,
        "lr": config["trainer"]["lr"],
        "output_dense": bool(config["model"]["skip"]),
        "n": len(done),
        "diverged": statuses.count("diverged"),
        "failed": statuses.count("failed"),
        "missing": statuses.count("missing") + statuses.count("preempted"),
        "ranks": {layer: fmean(record["final"]["ranks"][layer] for record in done) for layer in layers},
        "config": _shared(config),
    }
    row |= {f"{name}_std": means[name].std(ddof=1) for name in _ACCURACIES}
    return row | {name: means[name].mean() for name in _MEANS}


def _figures(record: Record) -> dict[str, float]:
    final = record["final"]
    weights = sum(math.prod(final["shapes"][layer]) for layer in final["ranks"])
    return {key: final[key] for key in _FINAL} | {
        "accuracy": final["test_accuracy"],
        "val_accuracy": final["val_accuracy"],
        "start_accuracy": (record.get("start") or {}).get("test_accuracy"),
        "compression_low_rank": 1 - final["params_low_rank"] / weights if weights else math.nan,
        "best_epoch": final["epoch"],
        "epochs": len(record["history"]),
        "seconds": record["timing"]["seconds"],
    }
