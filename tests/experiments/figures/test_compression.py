import pytest

from experiments.figures.compression import from_scale, named, to_scale


def test_the_scale_and_its_inverse() -> None:
    assert to_scale(99.0) - to_scale(90.0) == pytest.approx(to_scale(99.9) - to_scale(99.0))
    assert from_scale(to_scale(93.7)) == pytest.approx(93.7)


def test_named_compressions_lie_within_the_limits_and_apart() -> None:
    assert named(89, 98.9)[:3] == [98.5, 98, 97] and named(89, 98.9)[-1] == 90
    assert all(35 <= tick <= 97 for tick in named(35, 97)) and len(named(35, 97)) <= 13
