"""From records of fine-tuning to the rows of a table: what the adapters cost and reach, the paper's figures beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from dlrt.accounting import mebi
from experiments.aggregate import DISPLAY_NAMES, Record, aggregate, group_key
from experiments.paper import vit

PROBE = "probe"
_NAMES = DISPLAY_NAMES | {
    "parallel_bug": "GeoLoRA (parallel BUG)",
    "dense": "full fine-tuning",
    PROBE: "linear probing",
}
_COUNTED = ["adapter_params", "trainable_params", "total_rank", "mean_rank"]


def method_of(config: Mapping[str, Any]) -> str:
    """The key of a run's method: its integrator's, or "probe" where that trains no more than the classifier."""
    name = str(config["integrator"]["name"])
    return PROBE if name == "dense" and config.get("adapters") else name


def name_of(method: str) -> str:
    """The name of a method in tables and figures of fine-tuning."""
    return _NAMES.get(method, method)


def label_of(config: Mapping[str, Any]) -> str:
    """The name of a run's method, with the rank if that is fixed."""
    name = name_of(method_of(config))
    return name if config["rank"] is None or is_adaptive(config) else f"{name}, r = {config['rank']}"


def is_adaptive(config: Mapping[str, Any]) -> bool:
    """Whether the ranks of a run change while it trains."""
    budget = config["integrator"].get("rank_budget")
    return config["tau"] is not None or budget is not None or config["integrator"]["name"] == "adalora"


def adapter_rows(records: Sequence[Record], missing: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    """Returns the rows of `experiments.aggregate` of runs that fine-tune, those of a model and data set together.

    `method` is `method_of`, `label` its name, `rank` the start rank and `rank_budget` its like. Means over the finished
    seeds, NaN where there are no adapters: `adapter_params`, as the paper counts (the method's own convention),
    `mebi`, the same in units of 2²⁰, `total_rank` and `mean_rank` over the layers; `trainable_params`, of all that is
    trained. `accuracy_median`; `step_seconds`, of one optimiser step, the median. `printed_mebi` and
    `printed_accuracy` are the paper's, NaN for another model than its own.
    """
    done: dict[str, list[Record]] = {}
    for record in records:
        if record["status"] == "done":
            done.setdefault(group_key(record["config"]), []).append(record)
    rows = aggregate(records, missing)
    more = [_named(config) | _measured(done.get(group_key(config), [])) for config in rows["config"]]
    rows = rows.drop(columns=["method", "rank"]).join(pd.DataFrame(more))
    order = rows.groupby(["model", "data"], sort=False).ngroup()
    return _beside(rows.iloc[order.argsort(kind="stable")].reset_index(drop=True))


def _named(config: dict[str, Any]) -> dict[str, Any]:
    rank, budget = config["rank"], config["integrator"].get("rank_budget")
    numbers = {"rank": math.nan if rank is None else rank, "rank_budget": math.nan if budget is None else budget}
    return {"method": method_of(config), "label": label_of(config)} | numbers


def _measured(done: list[Record]) -> dict[str, float]:
    runs = pd.DataFrame([_run(record) for record in done], columns=[*_COUNTED, "accuracy", "step_seconds"], dtype=float)
    means = {name: runs[name].mean() for name in _COUNTED}
    medians = {"accuracy_median": runs["accuracy"].median(), "step_seconds": runs["step_seconds"].median()}
    return means | {"mebi": mebi(means["adapter_params"])} | medians


def _run(record: Record) -> dict[str, Any]:
    final, timing = record["final"], record["timing"]
    ranks = final["ranks"].values()
    return {
        "adapter_params": final.get("adapter_params"),
        "trainable_params": final.get("trainable_params"),
        "total_rank": sum(ranks) if ranks else None,
        "mean_rank": fmean(ranks) if ranks else None,
        "accuracy": final["test_accuracy"],
        "step_seconds": timing["step_seconds"] / timing["steps"] if timing.get("steps") else None,
    }


def _beside(rows: pd.DataFrame) -> pd.DataFrame:
    printed = vit.printed().assign(model=vit.MODEL)
    printed = printed.rename(columns={"mebi": "printed_mebi", "accuracy": "printed_accuracy"})
    return rows.merge(printed, how="left", on=["model", "data", "method"])
