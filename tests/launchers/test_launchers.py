"""Every launcher: four jobs, four records and four W&B runs; one that raises costs only itself."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from fake_slurm import slurm
from launched import PLUGINS, sweep, wandb_run
from toy_runs import records_in

pytestmark = pytest.mark.launchers


@pytest.fixture(params=PLUGINS)
def launcher(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def environment(launcher: str, tmp_path: Path) -> Mapping[str, str]:
    return slurm(tmp_path / "slurm") if launcher == "submitit_slurm" else {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder the sweep is started in."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def test_four_jobs_are_four_records_and_four_wandb_runs_and_are_not_run_again(
    launcher: str, environment: Mapping[str, str], folder: Path
) -> None:
    arguments = ["seed=0,1,2,3", "logger=wandb", "logger.mode=offline"]
    first = sweep(launcher, folder, *arguments, **environment)
    assert first.returncode == 0, first.stdout + first.stderr
    records = records_in(folder / "runs")
    assert [record["status"] for record in records] == ["done"] * 4
    assert {record["config"]["seed"] for record in records} == {0, 1, 2, 3}
    runs = [wandb_run(file) for file in (folder / "runs" / "wandb").glob("offline-run-*/*.wandb")]
    logged = sorted((run["name"], run["config"]["seed"], run["summary"]["status"]) for run in runs)
    assert logged == sorted((record["name"], record["config"]["seed"], "done") for record in records)
    assert [path.name for path in folder.iterdir()] == ["runs"]

    written = {path: path.stat().st_mtime_ns for path in folder.rglob("records/*.json")}
    second = sweep(launcher, folder, *arguments, **environment)
    assert second.returncode == 0 and second.stdout.count("recorded already (done, key ") == 4
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("records/*.json")} == written and len(written) == 4


def test_a_job_that_raises_costs_only_itself(launcher: str, environment: Mapping[str, str], folder: Path) -> None:
    swept = sweep(launcher, folder, "+model.kwargs.mode=ok,raise,fine,good", **environment)
    statuses = {r["config"]["model"]["kwargs"]["mode"]: r["status"] for r in records_in(folder / "runs")}
    assert statuses == {"ok": "done", "raise": "failed", "fine": "done", "good": "done"}
    assert swept.returncode == 1 and "1 of 4 runs failed" in swept.stdout
