"""Figures of tables as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

NONE = "–"


def number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:g}"


def count(value: float) -> str:
    return NONE if pd.isna(value) else f"{value:,.0f}"


def percent(fraction: float, digits: str = ".2f") -> str:
    return NONE if pd.isna(fraction) else f"{100 * fraction:{digits}}"


def points(difference: float) -> str:
    """A difference of two percentages, with its sign."""
    return percent(difference, "+.2f").replace("-", "−")


def spread(mean: float, std: float) -> str:
    return percent(mean) if pd.isna(std) else f"{percent(mean)} ± {percent(std)}"


def ranks(layers: Mapping[str, float]) -> str:
    values = list(layers.values())
    if len(values) > 6:
        return f"{min(values):.0f} to {max(values):.0f}"
    return "-".join(f"{value:.0f}" for value in values)


def probability(p: float) -> str:
    return NONE if pd.isna(p) else "< 0.0001" if p < 0.0001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def three_digits(value: float) -> int:
    """The decimals that show three significant digits of a positive value, none of 100 and more."""
    return max(0, 2 - math.floor(math.log10(value)))


def commits(provenances: Iterable[Mapping[str, Any]]) -> str:
    """The commits of runs, in short."""
    return listed({f"{(p['commit'] or 'unknown')[:9]}{' (dirty)' if p['dirty'] else ''}" for p in provenances})


def setting(value: Any) -> str:
    """The value of a config key."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
