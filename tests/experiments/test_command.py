"""What ends a command."""

from __future__ import annotations

import pytest

from experiments.benchmark.config import BenchmarkConfig
from experiments.command import in_one_sentence
from experiments.config import ConfigError


@pytest.mark.parametrize("schema", [(), (BenchmarkConfig,)])
def test_a_mistake_ends_in_its_sentence(schema: tuple[type, ...]) -> None:
    with pytest.raises(SystemExit, match=r"^tau is 2: use less$"), in_one_sentence(*schema):
        raise ConfigError("tau is 2: use less")


@pytest.mark.parametrize("bug", [KeyError, KeyboardInterrupt, SystemExit])
def test_anything_else_is_left_alone(bug: type[BaseException]) -> None:
    with pytest.raises(bug), in_one_sentence():
        raise bug
