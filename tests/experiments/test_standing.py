"""Where runs stand, from what is in their folder, and how long the rest takes."""

import json
import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fake_records import record
from fake_running import checkpoint, held, running

from experiments.records import Store
from experiments.running import note
from experiments.standing import Runs, Standing, expected, seconds_left, total
from experiments.sweeps import Planned


def planned(run: dict[str, Any]) -> Planned:
    return Planned(run["key"], run["name"], run["config"]["integrator"]["name"], ())


def stand(folder: Path, run: dict[str, Any]) -> Standing:
    return Runs(folder).of(planned(run))


RUN = record("abc_psi", tau=0.1)


def test_a_run_of_which_there_is_nothing_is_missing(tmp_path: Path) -> None:
    assert stand(tmp_path, RUN) == Standing(planned(RUN), "missing")
    Store(tmp_path).write(record("abc_psi", tau=0.2))
    assert stand(tmp_path, RUN).state == "missing"


@pytest.mark.parametrize("state", ["done", "diverged", "failed", "preempted"])
def test_a_recorded_run_is_in_the_state_of_its_record(tmp_path: Path, state: str) -> None:
    Store(tmp_path).write(record("abc_psi", tau=0.1, status=state))
    assert stand(tmp_path, RUN).state == state


def test_what_failed_says_why_in_a_line(tmp_path: Path) -> None:
    failed = record("abc_psi", tau=0.1, status="failed")
    for message, epoch, words in [
        ("cannot do this\nmore", 2, "in epoch 2: cannot do this"),
        ("no room", None, "no room"),
        ("", None, "AssertionError"),
    ]:
        failed["error"] = {"kind": "AssertionError", "message": message, "epoch": epoch}
        Store(tmp_path).write(failed)
        assert stand(tmp_path, failed).note == words


def test_a_preempted_run_goes_on_from_its_checkpoint_if_there_is_one(tmp_path: Path) -> None:
    run = record("abc_psi", tau=0.1, status="preempted")
    run["history"], run["error"]["epoch"] = run["history"][:1], 2  # of three epochs, one is done
    Store(tmp_path).write(run)
    found = stand(tmp_path, run)
    assert found.epoch == "2/3" and found.share == 1.0 and "starts again" in found.note
    checkpoint(tmp_path, run)
    found = stand(tmp_path, run)
    assert found.share == pytest.approx(2 / 3) and found.note == "goes on from its checkpoint"


@pytest.mark.parametrize("state", [None, "done", "failed", "preempted"])
def test_a_noted_run_whose_lock_is_held_is_running_whatever_is_recorded(tmp_path: Path, state: str | None) -> None:
    if state is not None:
        Store(tmp_path).write(record("abc_psi", tau=0.1, status=state))
    note(tmp_path, running(RUN))
    with held(tmp_path, RUN):
        found = stand(tmp_path, RUN)
    assert found.state == "running" and found.epoch == "3/4" and found.note == "process 7 on here"


def test_what_is_left_of_a_running_one_follows_from_its_pace_and_the_time_since_the_note(tmp_path: Path) -> None:
    for ago, left in ((0.0, 20.0), (15.0, 5.0), (100.0, 0.0)):  # two seconds per step, ten steps to go
        note(tmp_path, running(RUN, updated=time.time() - ago))
        with held(tmp_path, RUN):
            assert seconds_left([stand(tmp_path, RUN)])[0] == pytest.approx(left, abs=0.5)


def test_a_noted_run_whose_lock_is_free_was_killed(tmp_path: Path) -> None:
    note(tmp_path, running(RUN))
    with held(tmp_path, RUN):
        pass
    found = stand(tmp_path, RUN)
    assert found.state == "preempted" and found.epoch == "3/4" and found.note.startswith("killed")
    assert "starts again" in found.note and seconds_left([found]) == [pytest.approx(80.0)]
    checkpoint(tmp_path, RUN)
    found = stand(tmp_path, RUN)
    assert "checkpoint" in found.note and seconds_left([found]) == [pytest.approx(20.0)]


def test_a_run_killed_while_it_was_trained_again_is_preempted_and_one_killed_after_its_record_is_not(
    tmp_path: Path,
) -> None:
    path = Store(tmp_path).write(RUN)
    note(tmp_path, running(RUN))
    os.utime(path, (time.time() - 60, time.time() - 60))
    assert stand(tmp_path, RUN).state == "preempted"
    os.utime(path, (time.time() + 1, time.time() + 1))
    assert stand(tmp_path, RUN).state == "done"


@pytest.mark.parametrize("text", ["", '{"key": "', "[]", "null", '{"key": "%s", "status": "dead"}', '{"key": "other"}'])
def test_half_a_record_is_none_and_named(tmp_path: Path, text: str) -> None:
    path = Store(tmp_path).write(RUN)
    path.write_text(text.replace("%s", RUN["key"]))
    found = stand(tmp_path, RUN)
    assert found.state == "missing" and found.note == f"{path} is no record of it: delete it"


def test_half_of_any_length_of_a_record_is_none(tmp_path: Path) -> None:
    path = Store(tmp_path).write(RUN)
    text = path.read_text()
    for length in range(0, len(text) - 1, 97):
        path.write_text(text[:length])
        assert stand(tmp_path, RUN).state == "missing"


def test_a_record_is_read_once_and_only_if_asked_for(tmp_path: Path) -> None:
    for seed in range(5):
        Store(tmp_path).write(record("abc_psi", tau=0.1, seed=seed))
    runs = Runs(tmp_path)
    with mock.patch("experiments.standing.json.loads", side_effect=json.loads) as loads:
        assert runs.of(planned(RUN)) is runs.of(planned(RUN))
    assert loads.call_count == 1


def test_runs_beside_the_sweeps_are_the_recorded_and_the_noted_ones_that_are_in_none(tmp_path: Path) -> None:
    single, noted = record("psi"), record("bug")
    for run in (RUN, single):
        Store(tmp_path).write(run)
    note(tmp_path, running(noted))
    beside = Runs(tmp_path).beside([[planned(RUN)], [planned(record("dense"))]])
    assert {(run.key, run.name) for run in beside} == {(run["key"], run["name"]) for run in (single, noted)}


def test_an_integrator_takes_the_median_of_its_own_runs_else_of_all() -> None:
    times = [("abc_psi", 1.0), ("abc_psi", 3.0), ("abc_psi", 100.0), ("dense", 10.0)]
    assert expected("abc_psi", times) == 3.0 and expected("dense", times) == 10.0
    assert expected("bug", times) == 6.5 and expected("bug", []) is None


def standing(integrator: str, state: str, seconds: float | None = None, share: float = 1.0) -> Standing:
    return Standing(Planned("", "", integrator, ()), state, seconds=seconds, share=share)


def test_what_is_not_begun_takes_as_long_as_what_is_finished() -> None:
    runs = [
        standing("abc_psi", "done", 100.0),
        standing("dense", "done", 10.0),
        standing("abc_psi", "missing"),
        standing("dense", "preempted", share=0.5),
        standing("abc_psi", "preempted", 60.0, share=0.25),
        standing("bug", "missing"),
        standing("abc_psi", "failed"),
        standing("abc_psi", "diverged"),
    ]
    left = seconds_left(runs)
    assert left == [0, 0, 100.0, 5.0, 15.0, 55.0, 0, 0]
    assert total(runs, left) == 175.0


def test_while_nothing_is_finished_the_running_ones_tell_and_without_them_nobody_knows() -> None:
    runs = [standing("abc_psi", "running", 80.0, 0.5), standing("dense", "running"), standing("bug", "missing")]
    assert seconds_left(runs) == [40.0, 80.0, 80.0] and total(runs, seconds_left(runs)) == 100.0
    assert seconds_left(runs[1:]) == [None, None] and total(runs[1:], [None, None]) is None
    assert total(runs[:2], [40.0, None]) is None


def test_all_together_take_no_less_than_the_longest_that_runs() -> None:
    runs = [
        standing("abc_psi", "running", 100.0),
        standing("abc_psi", "running", 10.0),
        standing("psi", "missing", 6.0),
    ]
    assert total(runs, seconds_left(runs)) == 100.0
    assert total([], []) == 0.0
