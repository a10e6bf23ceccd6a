"""What tells the rows of a table apart besides method, τ and rank: the config keys that vary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from experiments.words import setting

HEADINGS = {
    "rank": "start rank",
    "model.name": "model",
    "data.name": "data",
    "model.skip": "dense layers",
    "adapters.name": "adapters",
    "integrator.rank_budget": "rank budget",
    "integrator.base_lr": "base lr",
    "integrator.inner_steps": "inner steps",
    "trainer.lr": "lr",
    "trainer.epochs": "epochs",
}
_SHOWN = {"integrator.name", "model.name", "data.name", "tau"}


def varying(rows: pd.DataFrame) -> list[str]:
    """Returns the dotted config keys without which two rows of `experiments.aggregate` would look alike."""
    alike = rows.groupby(["method", "model", "data", "tau", "rank"], dropna=False, sort=False)
    found: dict[str, None] = {}
    for _, group in alike:
        configs = [flat(config) for config in group["config"]]
        keys = dict.fromkeys(key for config in configs for key in config if key not in _SHOWN)
        found |= dict.fromkeys(key for key in keys if len({setting(config.get(key)) for config in configs}) > 1)
    return list(found)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the config by dotted key."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def columns(rows: pd.DataFrame, keys: Iterable[str]) -> dict[str, list[str]]:
    """Returns a column of text per key."""
    configs = [flat(config) for config in rows["config"]]
    return {heading(key): [setting(config.get(key)) for config in configs] for key in keys}


def heading(key: str) -> str:
    """Returns the name of a config key in tables and figures."""
    return HEADINGS.get(key, key)
