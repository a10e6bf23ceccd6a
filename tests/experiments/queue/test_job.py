"""Jobs in worker processes: what becomes of one that is done, impossible, dies, or is stopped."""

import time
from pathlib import Path

import pytest
from toy_runs import TOY, compose, records_in

from experiments.queue.backlog import Job
from experiments.queue.job import run
from experiments.records import identity, key_of
from experiments.references import Cell
from experiments.workers import Pool

PATIENCE = 120.0


def job(results_dir: Path, *overrides: str) -> Job:
    lines = (*TOY, f"results_dir={results_dir}", *overrides)
    config = identity(compose(*lines))
    return Job(Cell(key_of(config), config, lines))


def touching(results_dir: Path, file: Path, *overrides: str) -> Job:
    return job(results_dir, "model.target=toy_queue:Net", f"+model.kwargs.file={file}", *overrides)


def wait_for(file: Path) -> None:
    start = time.monotonic()
    while not file.exists():
        assert time.monotonic() - start < PATIENCE
        time.sleep(0.05)


def test_jobs_end_one_by_one_and_a_stopped_one_is_preempted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pool = Pool(2, quiet=True)
    long = touching(tmp_path, tmp_path / "started", "trainer.epochs=1000000")
    pool.start(long, run, compose(*long.overrides), long.overrides)
    reasons = []
    for each in (
        job(tmp_path, "seed=1"),
        job(tmp_path, "tau=1.5"),
        job(tmp_path, "+model.kwargs.mode=raise"),
        touching(tmp_path, tmp_path / "dying", "+model.kwargs.die=true"),
    ):
        pool.start(each, run, compose(*each.overrides), each.overrides)
        assert pool.jobs == [long, each] and not pool.idle
        ((ended, reason),) = pool.ended(PATIENCE)
        assert ended is each and pool.idle
        reasons.append(str(reason).partition(":")[0])
    assert reasons == ["", "tau=1.5 must lie in [0, 1)", "", "its process died (exit code 3)"]
    assert pool.ended(0.0) == []
    wait_for(tmp_path / "started")
    pool.stop()
    assert sorted(record["status"] for record in records_in(tmp_path)) == ["done", "failed", "preempted"]
    assert capfd.readouterr() == ("", "")
