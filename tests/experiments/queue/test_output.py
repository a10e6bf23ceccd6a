"""The queue's JSON-lines file."""

from pathlib import Path

import pytest
from fake_records import record

from experiments import kept
from experiments.config import ConfigError
from experiments.queue.output import Output

DONE, STOPPED = record("abc_psi", 0.1), record("abc_psi", 0.1, status="preempted")
OTHER = record("dense", rank=None)


def statuses(path: Path) -> list[str]:
    return [found["status"] for found in kept.read(path).values()]


def test_records_join_those_of_another_queue(tmp_path: Path) -> None:
    path = tmp_path / "new" / "queue.jsonl"
    output = Output(path, {})
    output.add(OTHER)
    output.write()
    output = Output(path, kept.read(path))
    output.add(DONE)
    output.write()
    assert [kept.packed(found) for found in kept.read(path).values()] == [kept.packed(r) for r in (OTHER, DONE)]
    assert [file.name for file in path.parent.iterdir()] == ["queue.jsonl"]


@pytest.mark.parametrize(("first", "second"), [(DONE, STOPPED), (STOPPED, DONE)])
def test_an_unfinished_record_replaces_no_finished_one(first: kept.Record, second: kept.Record, tmp_path: Path) -> None:
    output = Output(tmp_path / "queue.jsonl", {first["key"]: first})
    output.add(second)
    output.write()
    assert statuses(output.path) == ["done"]


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--out .*queue.jsonl: cannot be written .*; give another file"):
        Output(tmp_path / "file" / "queue.jsonl", {}).write()
