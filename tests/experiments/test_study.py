"""Optuna's suggestions, judged on a problem whose best values are known."""

from statistics import median
from typing import Any

import pytest
from fake_records import record

from experiments.config import ConfigError
from experiments.search_space import Space
from experiments.study import SAMPLERS, Study

optuna = pytest.importorskip("optuna", reason="needs pip install -e '.[optuna]'")
KEYS = ["val_accuracy", "compression"]


def space() -> Space:
    return {"x": optuna.distributions.UniformDistribution(0.0, 1.0)}


def run_of(x: float) -> dict[str, Any]:
    """A record whose accuracy falls with the distance of x from 0.7."""
    return record("abc_psi", 0.1, accuracy=1 - (x - 0.7) ** 2)


def values(study: Study, trials: int) -> list[float]:
    found = []
    for number in range(trials):
        trial = study.ask(number, space())
        study.tell(trial, run_of(trial.params["x"]))
        found.append(trial.params["x"])
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("keys", [KEYS, KEYS[:1]])
def test_the_same_study_makes_the_same_suggestions_again(sampler: str, keys: list[str]) -> None:
    options = {"population_size": 4} if sampler == "nsgaii" else {}
    first = values(Study(keys, sampler, options, seed=0), 16)
    assert values(Study(keys, sampler, options, seed=0), 16) == first
    assert len(set(first)) > 8  # no trial repeats the random numbers of another
    assert not set(values(Study(keys, sampler, options, seed=1), 16)) & set(first)


def test_tpe_comes_closer_than_chance() -> None:
    found = values(Study(KEYS[:1], "tpe", {}, seed=0), 60)
    early, late = (median(abs(x - 0.7) for x in part) for part in (found[:10], found[-20:]))
    assert late < 0.5 * early


def test_a_diverged_run_is_the_worst_so_far_and_a_failed_one_does_not_count() -> None:
    study = Study(KEYS, "random", {}, seed=0)
    diverged, failed = (record("abc_psi", 0.1, status=status) for status in ("diverged", "failed"))
    for number, run in enumerate([None, diverged, run_of(0.7), run_of(0.5), diverged, failed]):
        study.tell(study.ask(number, space()), run)
    trials = study._study.trials
    assert [trial.state.name for trial in trials] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]
    assert trials[4].values == [pytest.approx(0.96), run_of(0.5)["final"]["compression"]]


def test_an_unknown_sampler_or_option_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="sampler=tpee: did you mean 'tpe'"):
        Study(KEYS, "tpee", {}, 0)
    with pytest.raises(ConfigError, match=r"sampler_options=.*unexpected keyword"):
        Study(KEYS, "tpe", {"n_start": 3}, 0)
