from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.config import ConfigError
from experiments.search_space import corners, distribution_of, draft_of, rounded

optuna = pytest.importorskip("optuna", reason="needs pip install -e '.[optuna]'")


def distribution(text: str) -> Any:
    return distribution_of(OverridesParser.create().parse_override(text))


def test_a_range_is_uniform_or_log_uniform() -> None:
    found = distribution("tau=tag(log, interval(0.02, 0.4))")
    assert (type(found), found.low, found.high) == (optuna.distributions.LogUniformDistribution, 0.02, 0.4)
    assert isinstance(distribution("tau=interval(0.02, 0.4)"), optuna.distributions.UniformDistribution)
    whole = distribution("rank=int(interval(2, 5))")
    assert (type(whole), whole.low, whole.high) == (optuna.distributions.IntUniformDistribution, 2, 5)


def test_values_one_by_one_are_as_the_plain_sweep_has_them() -> None:
    assert distribution("integrator=abc_psi,bug").choices == ("abc_psi", "bug")
    assert distribution("rank=range(2,5)").choices == ("2", "3", "4")
    assert distribution("integrator.max_rank=null,12").choices == ("null", "12")


@pytest.mark.parametrize("text", ["tau=interval(0.5, 0.4)", "tau=tag(log, interval(0.0, 0.4))"])
def test_an_impossible_range_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        distribution(text)
    assert str(caught.value).startswith(f"{text}: an interval goes from low to high")


def test_numbers_have_four_digits_and_stay_within_the_range() -> None:
    space = distribution("tau=interval(0.123446, 0.987664)")
    assert rounded(0.5432109, space) == 0.5432
    assert rounded(0.123446, space) == 0.123446  # 0.1234 lies below
    assert rounded(0.987664, space) == 0.987664
    assert rounded(7, distribution("rank=int(interval(2, 9))")) == 7
    assert rounded("null", distribution("tau=null,0.1")) == "null"


def test_a_draft_writes_keys_with_their_sign_and_is_known_without() -> None:
    space = {"tau": distribution("tau=interval(0, 0.5)"), "+model.kwargs.mode": distribution("+model.kwargs.mode=a,b")}
    draft = draft_of({"tau": 0.333333, "+model.kwargs.mode": "b"}, space)
    assert draft == {"tau": "tau=0.3333", "model.kwargs.mode": "+model.kwargs.mode=b"}


def test_every_end_of_a_range_and_every_choice_is_in_a_corner() -> None:
    space = {"tau": distribution("tau=interval(0.1, 0.5)"), "rank": distribution("rank=2,3,4")}
    assert corners(space) == [
        {"tau": "tau=0.1", "rank": "rank=2"},
        {"tau": "tau=0.5", "rank": "rank=2"},
        {"tau": "tau=0.1", "rank": "rank=2"},
        {"tau": "tau=0.1", "rank": "rank=3"},
        {"tau": "tau=0.1", "rank": "rank=4"},
    ]
