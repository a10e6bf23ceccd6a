"""The records' file."""

from pathlib import Path

import pytest

from experiments.benchmark import store
from experiments.benchmark.cases import Case
from experiments.config import ConfigError


def test_the_last_record_of_a_key_counts_and_all_stay(tmp_path: Path) -> None:
    for number in (1, 2):
        store.append(tmp_path / "new", {"key": "a", "number": number})
    store.append(tmp_path / "new", {"key": "b", "number": 3})
    assert {key: r["number"] for key, r in store.read(tmp_path / "new").items()} == {"a": 2, "b": 3}
    assert len((tmp_path / "new" / store.FILE).read_text().splitlines()) == 3
    assert store.read(tmp_path) == {}


def test_a_line_cut_off_is_passed_over_and_any_other_damage_is_named(tmp_path: Path) -> None:
    file = tmp_path / store.FILE
    file.write_text('{"key": "a"}\n{"key": "b')
    assert store.read(tmp_path) == {"a": {"key": "a"}}
    file.write_text('{"key": "a"}\n{"no": "key"}\n{"key": "b"}\n')
    with pytest.raises(ConfigError, match=r"records.jsonl:2 is no record .*: delete the line"):
        store.read(tmp_path)


def test_a_key_is_of_the_step_and_its_place_but_not_of_what_it_is_compared_with() -> None:
    case = Case("mlp", 8, 4, 2, "bug")
    key = store.key(case, "cpu: x", 2)
    assert key == store.key(Case("mlp", 8, 4, 2, "bug", dense=("bf16",), reference=True), "cpu: x", 2)
    others = [(Case("mlp", 8, 4, 3, "bug"), "cpu: x", 2), (case, "cpu: y", 2), (case, "cpu: x", 1)]
    assert key not in [store.key(*other) for other in others]
