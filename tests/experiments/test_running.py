"""Notes of what runs are doing, and whether their processes live."""

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from fake_running import process_with

from experiments.records import Store
from experiments.running import Running, alive, clear, note, noted

RUN = Running(
    key="0123456789ab", name="abc_psi-mnist", host="here", pid=7, started="2026-01-01T00:00:00+00:00",
    epoch=2, epochs=4, step=30, steps=80, seconds=6.0, updated=1000.0,
)  # fmt: skip


def test_a_note_is_read_as_it_was_written_until_it_is_cleared(tmp_path: Path) -> None:
    other = replace(RUN, key="other")
    note(tmp_path, RUN)
    note(tmp_path, other)
    note(tmp_path, replace(RUN, step=31))
    assert noted(tmp_path) == {RUN.key: replace(RUN, step=31), "other": other}
    clear(tmp_path, RUN.key)
    clear(tmp_path, RUN.key)
    assert noted(tmp_path) == {"other": other}
    assert [path.name for path in (tmp_path / "running").iterdir()] == ["other.json"]


def test_nothing_is_noted_in_a_folder_that_there_is_not(tmp_path: Path) -> None:
    clear(tmp_path / "none", RUN.key)
    assert noted(tmp_path / "none") == {} and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "text",
    ["", '{"key": "0123', "[]", "null", '{"key": "0123456789ab"}', json.dumps(vars(RUN) | {"step": None}), "\xff"],
)
def test_a_damaged_note_is_left_out(tmp_path: Path, text: str) -> None:
    note(tmp_path, replace(RUN, key="whole"))
    (tmp_path / "running" / f"{RUN.key}.json").write_bytes(text.encode("latin-1"))
    assert list(noted(tmp_path)) == ["whole"]


def test_a_note_of_another_run_is_left_out(tmp_path: Path) -> None:
    note(tmp_path, RUN)
    (tmp_path / "running" / f"{RUN.key}.json").rename(tmp_path / "running" / "copy.json")
    assert noted(tmp_path) == {}


def test_a_full_disk_stops_no_run_and_leaves_the_note_before(tmp_path: Path) -> None:
    note(tmp_path, RUN)
    with mock.patch.object(Path, "write_text", side_effect=OSError(28, "No space left on device")):
        note(tmp_path, replace(RUN, step=31))
    assert noted(tmp_path) == {RUN.key: RUN}
    assert len(list((tmp_path / "running").iterdir())) == 1


def test_a_folder_that_cannot_be_made_stops_no_run(tmp_path: Path) -> None:
    (tmp_path / "running").write_text("a file")
    note(tmp_path, RUN)
    clear(tmp_path, RUN.key)
    assert noted(tmp_path) == {}


def test_the_pace_gives_the_whole_time_and_what_is_left() -> None:
    assert RUN.seconds_of_all == pytest.approx(16.0) and RUN.share_left == pytest.approx(0.625)
    for unknown in (replace(RUN, steps=0), replace(RUN, step=0)):
        assert unknown.seconds_of_all is None and unknown.share_left == 1.0
    assert replace(RUN, step=99).share_left == 0.0


def test_a_run_is_alive_until_its_process_is_killed(tmp_path: Path) -> None:
    assert not alive(tmp_path, RUN.key) and not any(tmp_path.iterdir())
    with process_with(tmp_path, RUN.key) as process:
        assert alive(tmp_path, RUN.key) and alive(tmp_path, RUN.key) and not alive(tmp_path, "other")
        process.kill()  # SIGKILL
        process.wait()
        assert not alive(tmp_path, RUN.key)
    with Store(tmp_path).lock(RUN.key):  # asking has not kept the lock
        assert alive(tmp_path, RUN.key)
    assert not alive(tmp_path, RUN.key)


def test_a_lock_of_another_user_counts_as_held(tmp_path: Path) -> None:
    with Store(tmp_path).lock(RUN.key):
        pass
    with mock.patch("experiments.running.FileLock.acquire", side_effect=PermissionError(13, "Permission denied")):
        assert alive(tmp_path, RUN.key)
