"""Optuna's suggestions, the same whenever they are asked for.

Nothing is kept of a study but the records of its runs. Trial number i draws random numbers of its own, so that a study
that is called again makes the same suggestions, finds their runs recorded, and goes on where it was killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.config import ConfigError
from experiments.importing import did_you_mean
from experiments.objective import objective
from experiments.search_space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

SAMPLERS = {"tpe": "TPESampler", "nsgaii": "NSGAIISampler", "random": "RandomSampler"}


class Study:
    """A search that maximises the figures `keys` of the records.

    Args:
        keys: see `experiments.objective`.
        sampler: a key of `SAMPLERS`.
        options: keywords of that sampler.
        seed: of its random numbers.

    Raises:
        ConfigError: no such sampler or options.
    """

    def __init__(self, keys: Sequence[str], sampler: str, options: Mapping[str, Any], seed: int) -> None:
        import optuna

        if sampler not in SAMPLERS:
            hint = did_you_mean(sampler, SAMPLERS)
            raise ConfigError(f"hydra.sweeper.sampler={sampler}: {hint}choose one of {', '.join(SAMPLERS)}")
        self._keys, self._sampler, self._options, self._seed = keys, sampler, options, seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(sampler=self._sampler_of(0), directions=["maximize"] * len(keys))

    def ask(self, number: int, space: Space) -> Trial:
        """Trial `number`, with a value for each key of the space in its `params`."""
        self._study.sampler = self._sampler_of(number)
        with np.errstate(invalid="ignore"):  # TPE divides by the range of a figure, which may be the same in all runs
            return self._study.ask(fixed_distributions=space)

    def tell(self, trial: Trial, record: dict[str, Any] | None) -> None:
        """Give the trial its run's figures.

        A run that diverged counts as the worst so far, so that what is near it is shunned; one that failed does not
        count.
        """
        from optuna.trial import TrialState

        values = objective(record, self._keys)
        done = [other.values for other in self._study.get_trials(states=(TrialState.COMPLETE,))]
        if record is not None and record["status"] == "diverged" and done:
            values = tuple(map(min, zip(*done, strict=True)))
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, list(values))

    def _sampler_of(self, number: int) -> BaseSampler:
        """The sampler of trial `number`, whose random numbers depend on nothing else."""
        from optuna import samplers

        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        try:
            sampler: BaseSampler = getattr(samplers, SAMPLERS[self._sampler])(seed=seed, **self._options)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"hydra.sweeper.sampler_options={self._options}: {error}") from error
        return sampler
