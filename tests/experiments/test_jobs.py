"""Runs as jobs of a launcher that breaks: what is started again, beside what, and when that ends."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_running import running
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from toy_runs import TOY, command, records_in

from experiments import running as notes
from experiments.jobs import Job, Jobs, in_a_line
from experiments.records import Store
from experiments.references import Cell

CELLS = [Cell(key, {}, (f"seed={key}",)) for key in "abcdef"]


class Launcher:
    """Does jobs at once, in order; `broken_by` kill their process, and with it the whole launch."""

    def __init__(self, store: Store, broken_by: str = "", at_a_time: int = 2, notes: bool = True) -> None:
        self.store, self.broken_by, self.at_a_time, self.notes = store, broken_by, at_a_time, notes
        self.launched: list[str] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        keys = [overrides[0][-1] for overrides in job_overrides]
        self.launched.append("".join(keys))
        while keys:
            together, keys = keys[: self.at_a_time], keys[self.at_a_time :]
            if set(together) & set(self.broken_by):
                for key in together if self.notes else ():
                    notes.note(self.store.folder, running({"key": key, "name": key}))
                raise RuntimeError("a worker died\nand much more")
            for key in together:
                self.store.write({"key": key, "name": key, "status": "done", "timing": {}, "error": None})
        return [JobReturn(overrides=list(job), status=JobStatus.COMPLETED) for job in job_overrides]


@pytest.fixture
def jobs_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Jobs, Any]]:
    def make(launcher: Any = Launcher, size: int | None = None, **options: Any) -> tuple[Jobs, Any]:
        fake = launcher(Store(tmp_path), **options)
        monkeypatch.setattr(Plugins.instance(), "instantiate_launcher", lambda *_: fake)
        return Jobs(SimpleNamespace(), print, OmegaConf.create(), Store(tmp_path), size), fake  # type: ignore[arg-type]

    return make


def recorded(folder: Path) -> str:
    return "".join(record["key"] for record in records_in(folder))


def test_jobs_go_to_the_launcher_so_many_at_a_time(jobs_with: Callable[..., Any], tmp_path: Path) -> None:
    jobs, launcher = jobs_with(size=4)
    with jobs:
        jobs.run(CELLS)
    assert launcher.launched == ["abcd", "ef"] and recorded(tmp_path) == "abcdef"
    assert jobs.errors == {} and jobs.begun == set("abcdef")
    assert not list((tmp_path / "locks").iterdir())


def test_of_a_launch_that_broke_what_was_running_is_started_again_one_by_one_and_the_rest_together(
    jobs_with: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs, launcher = jobs_with(broken_by="c")
    with jobs:
        jobs.run(CELLS)
    assert launcher.launched == ["abcdef", "ef", "c", "d"]
    assert recorded(tmp_path) == "abdef" and jobs.errors == {"c": ("killed", "a worker died and much more")}
    assert [jobs.end_of(cell)[0] for cell in CELLS] == ["done", "done", "killed", "done", "done", "done"]
    assert jobs.end_of(CELLS[2]) == ("killed", None, "a worker died and much more")
    assert "the launcher broke (a worker died and much more): 4 runs are started again" in capsys.readouterr().out


def test_two_runs_that_break_the_launcher_cost_no_other(jobs_with: Callable[..., Any], tmp_path: Path) -> None:
    jobs, launcher = jobs_with(broken_by="be")
    with jobs:
        jobs.run(CELLS)
    assert recorded(tmp_path) == "acdf" and jobs.errors.keys() == {"b", "e"}
    assert all("b" not in launch for launch in launcher.launched[1:] if len(launch) > 1)


def test_a_launcher_that_never_works_is_tried_a_few_times_only(jobs_with: Callable[..., Any], tmp_path: Path) -> None:
    jobs, launcher = jobs_with(broken_by="abcdef", notes=False)
    with jobs:
        jobs.run(CELLS)
    assert launcher.launched == ["abcdef"] and jobs.errors.keys() == set("abcdef")
    assert jobs.end_of(CELLS[0]) == ("failed", None, "a worker died and much more")

    jobs, launcher = jobs_with(broken_by="abcdef")
    with jobs:
        jobs.run(CELLS)
    assert len(launcher.launched) < 3 * len(CELLS) and jobs.errors.keys() == set("abcdef")


def test_a_run_that_another_process_goes_on_with_is_no_suspect(jobs_with: Callable[..., Any], tmp_path: Path) -> None:
    """Joblib's other workers end their jobs, though the pool is broken."""
    jobs, launcher = jobs_with(broken_by="a")
    with ExitStack() as elsewhere, jobs:
        elsewhere.enter_context(Store(tmp_path).lock("b"))
        jobs.run(CELLS[:3])
    assert launcher.launched == ["abc", "bc", "a"] and recorded(tmp_path) == "bc"


def test_nothing_is_started_once_the_sweep_is_stopped(jobs_with: Callable[..., Any], tmp_path: Path) -> None:
    jobs, launcher = jobs_with(size=2)
    done: list[Any] = []
    with jobs:
        jobs._stop_file.write_text("SIGTERM")
        assert jobs.stopped == "SIGTERM"
        jobs.run(CELLS)
        Job(lambda cfg, file: done.append(cfg), jobs._stop_file)(OmegaConf.create())
    assert launcher.launched == done == [] and jobs.begun == set()
    assert jobs.end_of(CELLS[0])[:2] == ("not run", None) and jobs.stopped == ""


def test_on_error_raise_stops_the_sweep_for_a_run_that_was_killed_too(
    jobs_with: Callable[..., Any], tmp_path: Path
) -> None:
    jobs, launcher = jobs_with(broken_by="b", at_a_time=1)
    jobs._raises = True
    with jobs:
        jobs.run(CELLS)
        assert launcher.launched == ["abcdef", "cdef", "b"] and "on_error=raise: a worker died" in jobs.stopped
        jobs.run(CELLS)
        assert len(launcher.launched) == 3


def test_a_failure_is_said_in_one_line() -> None:
    assert in_a_line(ValueError("one\n two")) == "one two" and in_a_line(ValueError()) == "ValueError"
    assert in_a_line(RuntimeError(f"A worker died. {'And so on. ' * 20}")) == "A worker died"


RAISING = ("on_error=raise", "+model.kwargs.mode=ok,raise,diverge", "seed=0,1")


def test_with_on_error_raise_nothing_is_begun_after_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("-m", *TOY, *RAISING, f"results_dir={tmp_path}") == 1
    assert sorted(record["status"] for record in records_in(tmp_path)) == ["done", "done", "failed"]
    out = capsys.readouterr().out
    assert "the sweep was stopped by on_error=raise, as abc_psi-import-import-tau0.1-rank4-seed0 [" in out
    assert [line.split()[2:4] for line in out.splitlines() if "not run" in line] == [["not", "run"]] * 3
    assert command("-m", *TOY, *RAISING[1:], f"results_dir={tmp_path}") == 1
    statuses = [record["status"] for record in records_in(tmp_path)]
    assert sorted(statuses) == ["diverged", "diverged", "done", "done", "failed", "failed"]
