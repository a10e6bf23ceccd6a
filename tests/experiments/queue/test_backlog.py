"""What is next in a queue."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_queue import FIXED_RANK, PRUNING, lines_of, record_of, save_weights

from experiments.queue.backlog import Backlog, Job
from experiments.records import Store

FOREVER = 1e9
TIMING = "task=time_training integrator=dense rank=2"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def backlog_of(store: Store, *texts: str) -> Backlog:
    return Backlog(lines_of(*texts, results_dir=store.folder), store, found=lambda record: None)


def words(job: Job | None) -> str:
    return "" if job is None else f"{job.cell.value('integrator')} {job.cell.config['seed']}"


def end(backlog: Backlog, store: Store, job: Job, **fields: Any) -> None:
    record = record_of(job.cell, **fields)
    store.write(record)
    if record["status"] == "done" and job.cell.value("integrator") == "dense":
        save_weights(store, job.cell)
    backlog.end(job, record)


def all_started(backlog: Backlog, seconds: float = FOREVER) -> list[Job]:
    """What starts now, beside each other."""
    running: list[Job] = []
    while job := backlog.next(running, seconds):
        running.append(job)
    return running


def all_run(backlog: Backlog, store: Store) -> list[str]:
    """What is run, one at a time."""
    found = []
    while job := backlog.next([], FOREVER):
        end(backlog, store, job)
        found.append(words(job))
    return found


def test_lines_are_run_in_order_with_all_workers_busy_and_each_run_once(store: Store) -> None:
    backlog = backlog_of(store, "integrator=bug rank=2 seed=0,1", "integrator=dense,bug rank=2 seed=1,2")
    assert list(map(words, all_started(backlog))) == ["bug 0", "bug 1", "dense 1", "dense 2", "bug 2"]
    first, second = backlog.lines
    assert backlog.states(first) == ["left"] * 2 and backlog.states(second) == ["left"] * 4


def test_what_is_recorded_is_found_and_not_run_unless_it_is_to_be_rerun(store: Store) -> None:
    text = "integrator=dense seed=0,1,2,3"
    (line,) = lines_of(text, results_dir=store.folder)
    for cell, status in zip(line.open(bool, store), ("done", "diverged", "failed", "preempted"), strict=True):
        store.write(record_of(cell, status))
    found: list[dict[str, Any]] = []
    backlog = Backlog(lines_of(text, results_dir=store.folder), store, found.append)
    assert backlog.states(backlog.lines[0]) == ["done", "diverged", "left", "left"]
    assert [record["status"] for record in found] == ["done", "diverged"]
    assert list(map(words, all_started(backlog))) == ["dense 2", "dense 3"]
    assert len(all_started(backlog_of(store, f"{text} rerun=all"))) == 4


def test_while_a_block_waits_for_runs_later_blocks_and_lines_go_on(store: Store) -> None:
    backlog = backlog_of(store, FIXED_RANK, "integrator=psi rank=2 seed=0,1")
    running = all_started(backlog)
    assert list(map(words, running)) == ["abc_psi 0", "abc_psi 1", "dense 0", "psi 0", "psi 1"]
    for job in running[:3]:
        assert backlog.next(running, FOREVER) is None
        end(backlog, store, job, rank=5)
    fixed = backlog.next(running[3:], FOREVER)
    assert words(fixed) == "bug 0" and fixed is not None and fixed.cell.config["rank"] == 6  # of 5 6 5 6: 5.5


def test_failed_and_preempted_runs_are_not_tried_again_and_what_waits_for_them_is_failed_or_left(store: Store) -> None:
    backlog = backlog_of(store, FIXED_RANK)
    first, second, dense = all_started(backlog)
    end(backlog, store, first, status="failed")
    end(backlog, store, second, status="preempted")
    end(backlog, store, dense)
    assert backlog.next([], FOREVER) is None
    assert backlog.states(backlog.lines[0]) == ["failed", "left", "done", "left"]
    backlog = backlog_of(store, FIXED_RANK)
    for job in all_started(backlog):
        backlog.end(job, None)
    assert backlog.states(backlog.lines[0]) == ["failed", "failed", "done", "failed"]
    assert backlog.lines[0].reasons == ["rank comes from runs with integrator=abc_psi, and none is finished"]


def test_lost_weights_are_made_again_and_only_if_a_run_that_is_left_needs_them(store: Store) -> None:
    assert all_run(backlog_of(store, PRUNING), store) == ["dense 0", "bug 0", "bug 0"]
    (path,) = store.folder.glob("weights/*")
    path.unlink()
    assert all_run(backlog_of(store, PRUNING), store) == []
    (record,) = store.folder.glob("records/bug*-rank3-*")
    record.unlink()
    backlog = backlog_of(store, PRUNING)
    (again,) = all_started(backlog)
    assert words(again) == "dense 0" and again.overrides[-1] == "rerun=all"
    assert backlog.states(backlog.lines[0]) == ["left", "done", "left"]
    end(backlog, store, again)
    assert all_run(backlog, store) == ["bug 0"]


def test_a_run_whose_weights_cannot_be_made_again_is_tried_and_fails(store: Store) -> None:
    assert len(all_run(backlog_of(store, PRUNING), store)) == 3
    for path in (*store.folder.glob("weights/*"), *store.folder.glob("records/bug*")):
        path.unlink()
    backlog = backlog_of(store, PRUNING)
    (dense,) = all_started(backlog)
    backlog.end(dense, None)
    assert [job.cell.config["rank"] for job in all_started(backlog)] == [2, 3]


def expectations(store: Store, seconds: Sequence[float], device: str = "cpu: Toy") -> Backlog:
    """Four runs of abc_psi of these seconds are over, a fifth and one of dense are left, and one of another line."""
    backlog = backlog_of(store, "integrator=abc_psi,dense rank=2 seed=0,1,2,3,4", "integrator=psi rank=2 seed=0")
    for each in seconds:
        job = backlog.next([], FOREVER)
        assert job is not None and words(job).startswith("abc_psi")
        end(backlog, store, job, seconds=each, device=device)
    return backlog


def test_a_run_whose_median_does_not_fit_starts_after_all_that_may(store: Store) -> None:
    backlog = expectations(store, (1.0, 20.0, 30.0, 500.0))
    assert backlog.typical(backlog.lines[0]) == 25.0 and backlog.typical(backlog.lines[1]) is None
    assert words(backlog.next([], 24.0)) == "psi 0"  # how long it takes is not known
    assert words(backlog.next([], 24.0)) == "abc_psi 4"


def test_what_measures_time_starts_only_if_it_fits(store: Store) -> None:
    """It has no checkpoint to go on from."""
    backlog = backlog_of(store, f"{TIMING} seed=0,1")
    first = backlog.next([], FOREVER)
    assert first is not None
    end(backlog, store, first, seconds=30.0)
    assert backlog.next([], 29.0) is None
    assert backlog.next([], 31.0) is not None


def test_runs_of_the_same_integrator_tell_best_and_those_of_another_device_nothing(store: Store) -> None:
    backlog = expectations(store, (10.0, 10.0, 10.0, 10.0, 10.0))
    dense = backlog.next([], 11.0)
    assert dense is not None
    end(backlog, store, dense, seconds=2.0)
    assert words(backlog.next([], 3.0)) == "dense 1"


def test_times_on_another_device_say_nothing(store: Store) -> None:
    assert words(expectations(store, (500.0,), "cuda: Toy").next([], 1.0)) == "abc_psi 1"


def test_what_measures_time_waits_until_the_device_is_free_and_has_it_alone(store: Store) -> None:
    backlog = backlog_of(store, "integrator=bug rank=2 seed=0,1", TIMING, "integrator=psi rank=2 seed=0")
    running = all_started(backlog)
    assert list(map(words, running)) == ["bug 0", "bug 1"]
    end(backlog, store, running[0])
    assert backlog.next(running[1:], FOREVER) is None
    end(backlog, store, running[1])
    timing = backlog.next([], FOREVER)
    assert timing is not None and timing.alone and backlog.next([timing], FOREVER) is None
    end(backlog, store, timing)
    assert words(backlog.next([], FOREVER)) == "psi 0"


def test_a_line_is_composed_when_it_is_reached(store: Store) -> None:
    backlog = backlog_of(store, "integrator=bug rank=2", "integrator=dense")
    job = backlog.next([], FOREVER)
    assert job is not None and backlog.lines[1].cells == []
    assert words(backlog.next([job], FOREVER)) == "dense 0"
