"""`hydra/launcher=processes`, without a sweeper: what becomes of each job."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, RunMode, TaskFunction
from launcher_tasks import faulty, faulty_too, seed_and_process

from experiments.config import CONF
from experiments.jobs import Job
from experiments.launcher import ProcessLauncher
from experiments.workers import Died


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


def launcher_of(n_jobs: int, task: TaskFunction, *overrides: str) -> ProcessLauncher:
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    config = hydra.compose_config("config", list(overrides), RunMode.MULTIRUN, with_log_configuration=False)
    launcher = ProcessLauncher(n_jobs)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
    launcher.setup(hydra_context=context, task_function=task, config=config)
    return launcher


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_are_in_the_order_of_the_jobs_from_so_many_processes(n_jobs: int) -> None:
    launcher = launcher_of(n_jobs, seed_and_process)
    results = list(launcher.launch([[f"seed={seed}"] for seed in range(4)], 0))
    results += launcher.launch([["seed=4"]], 4)
    launcher.close()
    assert [result.return_value[0] for result in results] == [0, 1, 2, 3, 4]
    processes = {result.return_value[1] for result in results}
    assert len(processes) == n_jobs and os.getpid() not in processes
    assert [result.overrides for result in results] == [[f"seed={seed}"] for seed in range(5)]


def test_a_job_that_raises_and_one_that_is_killed_take_no_other_with_them() -> None:
    launcher = launcher_of(1, faulty)
    first, raised, killed, last = launcher.launch([[f"seed={seed}"] for seed in range(4)], 0)
    launcher.close()
    assert (first.return_value, last.return_value) == (0, 3)
    assert (raised.status, killed.status) == (JobStatus.FAILED, JobStatus.FAILED)
    assert "this and that" in str(raised._return_value)
    assert isinstance(killed._return_value, Died) and "killed by SIGKILL" in str(killed._return_value)


def test_on_error_raise_stops_the_sweep_when_a_process_dies(tmp_path: Path) -> None:
    launcher = launcher_of(1, Job(faulty_too, tmp_path / "stop"), "on_error=raise")
    results = launcher.launch([["seed=0"], ["seed=2"], ["seed=3"]], 0)
    launcher.close()
    assert [result.status for result in results] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    assert [result._return_value for result in results][::2] == [0, None]
    assert "on_error=raise: its process died (killed by SIGKILL)" in (tmp_path / "stop").read_text()


def test_an_interrupt_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = launcher_of(1, seed_and_process)
    (done,) = launcher.launch([["seed=0"]], 0)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    assert launcher._pool is not None
    monkeypatch.setattr(launcher._pool, "ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launcher.launch([["seed=1"]], 1)
    with pytest.raises(ProcessLookupError):
        os.kill(done.return_value[1], 0)
