"""Worker processes, and what is known of calls whose process died."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments import workers
from experiments.workers import Died, Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2, quiet=True)
    yield pool
    pool.stop()


def result_of(pool: Pool, call: Callable[..., Any], *arguments: Any) -> Any:
    pool.start("job", call, *arguments)
    ((job, result),) = pool.ended(60)
    assert job == "job"
    return result


class Unpicklable(Exception):
    """Its pickle cannot be read, as it is made of other arguments than it keeps."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class Unwritable(Exception):
    def __init__(self) -> None:
        super().__init__("no pickle")
        self.function = lambda: None


def fail(kind: type[Exception], *arguments: str) -> None:
    raise kind(*arguments)


def kill_me(signum: int) -> None:
    os.kill(os.getpid(), signum)


def leave(code: int) -> None:
    sys.exit(code)


def slow(path: Path, seconds: float, polite: bool) -> None:
    """Sleeps, and says at the end how it ended."""
    if polite:
        signal.signal(signal.SIGTERM, lambda *_: fail(KeyboardInterrupt))  # type: ignore[arg-type]
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    path.write_text("begun")
    try:
        time.sleep(seconds)
    finally:
        path.write_text("ended")


def test_calls_are_done_in_processes_that_are_used_again(pool: Pool) -> None:
    assert result_of(pool, divmod, 7, 2) == (3, 1)
    first = result_of(pool, os.getpid)
    assert first != os.getpid() and result_of(pool, os.getpid) == first


def test_all_that_can_go_wrong_with_a_call_is_its_own_result_and_the_pool_goes_on(pool: Pool) -> None:
    error = result_of(pool, int, "x")
    assert isinstance(error, ValueError) and "'x'" in str(error)
    for kind, arguments, text in ((Unpicklable, ("this", "that"), "this and that"), (Unwritable, (), "no pickle")):
        error = result_of(pool, fail, kind, *arguments)
        assert isinstance(error, Exception) and text in str(error)
    for call, arguments, cause in (
        (kill_me, (signal.SIGKILL,), "killed by SIGKILL"),
        (kill_me, (signal.SIGSEGV,), "killed by SIGSEGV"),
        (os._exit, (3,), "exit code 3"),
        (leave, (4,), "exit code 4"),
    ):
        error = result_of(pool, call, *arguments)
        assert isinstance(error, Died) and cause in str(error)
    assert result_of(pool, divmod, 7, 2) == (3, 1)


def test_a_worker_that_died_while_it_had_nothing_to_do_is_no_result(pool: Pool) -> None:
    pid = result_of(pool, os.getpid)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    assert result_of(pool, divmod, 7, 2) == (3, 1)


def test_two_at_a_time_and_what_is_done_meanwhile_is_known(pool: Pool, tmp_path: Path) -> None:
    assert pool.idle and pool.jobs == []
    for job in ("one", "other"):
        pool.start(job, time.sleep, 0.2)
    assert not pool.idle and pool.jobs == ["one", "other"]
    ended = []
    while pool.jobs:
        ended += pool.ended(60)
    assert sorted(ended) == [("one", None), ("other", None)]


def test_nothing_has_ended_when_the_time_is_over(pool: Pool) -> None:
    pool.start("job", time.sleep, 30)
    assert pool.ended(0.1) == [] and pool.jobs == ["job"]


@pytest.mark.parametrize("polite", [True, False])
def test_busy_workers_are_asked_to_stop_and_then_killed(
    polite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE", 30.0 if polite else 0.5)
    pool, path = Pool(1, quiet=True), tmp_path / "state"
    pool.start("job", slow, path, 60, polite)
    while not path.exists():
        time.sleep(0.05)
    start = time.monotonic()
    pool.stop()
    assert time.monotonic() - start < 10 and pool.jobs == []
    assert path.read_text() == ("ended" if polite else "begun")
