import math

import pytest

from experiments import words


def test_many_layers_are_summarised() -> None:
    assert words.ranks({str(i): float(i) for i in range(3, 11)}) == "3 to 10"
    assert words.ranks({"a": 20.4, "b": 7.0}) == "20-7"


@pytest.mark.parametrize(
    ("p", "text"), [(math.nan, "–"), (3e-9, "< 0.0001"), (0.00123, "0.0012"), (0.0456, "0.046"), (0.6789, "0.68")]
)
def test_p_has_two_digits(p: float, text: str) -> None:
    assert words.probability(p) == text


@pytest.mark.parametrize(
    ("value", "text"), [([], "none"), (["output"], "output"), (None, "–"), (0.001, "0.001"), (10, "10"), (True, "True")]
)
def test_a_setting_is_a_word(value: object, text: str) -> None:
    assert words.setting(value) == text


def test_a_difference_has_its_sign() -> None:
    assert (words.points(0.0125), words.points(-0.0125), words.points(math.nan)) == ("+1.25", "−1.25", "–")


def test_a_spread_of_one_run_is_its_value() -> None:
    assert (words.spread(0.971, math.nan), words.spread(0.971, 0.0005)) == ("97.10", "97.10 ± 0.05")
