"""A search space from a command line: Optuna's distributions, and what their values are as overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override

from experiments.config import ConfigError
from experiments.presets import Draft

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Space = dict[str, "BaseDistribution"]  # by key, as the override writes it
DIGITS = 4  # of a suggested number: enough for any choice, and the same on every machine, as a record's key must be


def distribution_of(override: Override) -> BaseDistribution:
    """The values that an override such as 'tau=tag(log, interval(0.02, 0.4))' or tau=0.1,0.2 allows.

    Raises:
        ConfigError: there are no such values.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
    from optuna.distributions import CategoricalDistribution

    if override.is_discrete_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    try:
        distribution: BaseDistribution = create_optuna_distribution_from_override(override)
    except ValueError as error:
        rule = "an interval goes from low to high, one with tag(log, …) from above 0"
        raise ConfigError(f"{override.input_line}: {rule}; give such a one") from error
    return distribution


def draft_of(values: dict[str, Any], space: Space) -> Draft:
    """The overrides, by key without sign, that give the keys of the space these values."""
    return {key.lstrip("+"): f"{key}={rounded(value, space[key])}" for key, value in values.items()}


def rounded(value: Any, distribution: Any) -> Any:
    """A float to DIGITS digits, within the distribution; another value as it is."""
    if not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)


def corners(space: Space) -> list[Draft]:
    """Drafts in which each choice and each end of a range occurs once, the other keys at their first."""
    ends = {key: _ends(distribution) for key, distribution in space.items()}
    first = {key: values[0] for key, values in ends.items()}
    return [draft_of(first | {key: value}, space) for key, values in ends.items() for value in values]


def _ends(distribution: Any) -> tuple[Any, ...]:
    return getattr(distribution, "choices", None) or (distribution.low, distribution.high)
