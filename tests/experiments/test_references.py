"""Values in Hydra's grammar, and which cells a reference means."""

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.config import ConfigError
from experiments.references import Cell, Reference, literal

CELL = Cell("k", {"integrator": {"name": "bug"}, "trainer": {"lr": 0.1}, "tau": None, "rank": 7, "seed": 3}, ())


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 3, -2, 0.1, 1e-7, "abc_psi", "a b", "it's", "1.0", "null", "123456789012", "12e456789012",
        "back\\slash", "ends in \\", "\\'", "NULL", "nan", "a=b,c", "${x}", "", [1, "a b", None], {"a": [0.5, "x y"]},
    ],
)  # fmt: skip
def test_a_value_survives_hydras_grammar(value: Any) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"key={literal(value)}"])
    assert override.value() == value and type(override.value()) is type(value)
    assert not override.is_sweep_override()


def test_a_cells_value_of_a_group_is_its_name() -> None:
    assert CELL.value("integrator") == "bug"
    assert CELL.value("integrator.name") == "bug"
    assert CELL.value("trainer.lr") == 0.1
    assert CELL.value("tau") is None


def test_a_reference_matches_by_all_its_conditions_and_same_means_the_cells_own() -> None:
    others = [Cell(str(n), {"tau": tau, "seed": n}, ()) for n, tau in enumerate([0.1, 0.2, 0.1, 0.1])]
    Reference("rank", {"tau": 0.1, "seed": "same"}).check(CELL, others)
    with pytest.raises(ConfigError, match=r"runs with tau=0\.2 seed=3, and no cells"):
        Reference("rank", {"tau": 0.2, "seed": "same"}).check(CELL, others)
    with pytest.raises(ConfigError, match=r"runs with tau=0\.1, and 3 cells"):
        Reference("weights", {"tau": 0.1}).check(CELL, others)


@pytest.mark.parametrize("entry", [{}, {"from": {}}, {"from": 1, "take": "mean_rank"}, {"from": {}, "take": "rank"}])
def test_anything_else_than_from_and_take_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot take rank from .*: write rank: \{from: \{KEY: VALUE\}, take: mean_rank"
    ):
        Reference.of("rank", entry)
