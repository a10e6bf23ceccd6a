"""What varies in a preset besides method, τ and rank: the figures draw each variant apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from experiments.aggregate import Record, aggregate
from experiments.settings import flat, heading, varying
from experiments.words import setting


class Variant(NamedTuple):
    """The values of the config keys that vary."""

    values: tuple[tuple[str, str], ...]

    @property
    def title(self) -> str:
        return ", ".join(f"{heading(key)}: {value}" for key, value in self.values)


def keys_of(records: Iterable[Record]) -> list[str]:
    """Returns the config keys that tell the low-rank rows of the records apart besides method, τ and rank."""
    low_rank = [record for record in records if record["config"]["integrator"]["name"] != "dense"]
    if not low_rank:
        return []
    rows = aggregate(low_rank)
    return [f"{group}.name" for group in ("model", "data") if rows[group].nunique() > 1] + varying(rows)


def variant_of(config: Mapping[str, Any], keys: Sequence[str]) -> Variant:
    """Returns the variant that the run with this config belongs to."""
    values = flat(config)
    return Variant(tuple((key, setting(values.get(key))) for key in keys))


def variants(rows: pd.DataFrame, keys: Sequence[str]) -> list[Variant]:
    """Returns the variants of the low-rank rows of `experiments.aggregate`, in order of appearance."""
    configs = rows.loc[rows["method"] != "dense", "config"]
    return list(dict.fromkeys(variant_of(config, keys) for config in configs))
