"""What SLURM is asked for, and runs that outlast the time limit of their jobs."""

import sys
from pathlib import Path

import pytest
from fake_slurm import slurm
from launched import sweep
from toy_runs import TOY, command, records_in

pytestmark = pytest.mark.launchers
SLOW = ("model.target=launched:Slow", "trainer.epochs=16")  # 48 steps


def test_the_batch_script_asks_slurm_for_what_the_config_says(tmp_path: Path) -> None:
    environment = slurm(tmp_path / "slurm") | {"WANDB_API_KEY": "t0ken" * 8}
    swept = sweep("submitit_slurm", tmp_path, "seed=0,1", "hydra.launcher.partition=gpu", **environment)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    script = (tmp_path / "slurm" / "submission.sh").read_text()
    options = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH ")}
    jobs = tmp_path / "runs" / "submitit"
    assert options >= {
        "gpus-per-node=1",
        "cpus-per-task=4",
        "mem=16GB",
        "time=240",
        "signal=USR1@300",
        "requeue",
        "partition=gpu",
        "array=0-1%2",
        "job-name=dlrt",
        "open-mode=append",
        f"output={jobs}/%A_%a/%A_%a_0_log.out",
    }
    assert not any(option.startswith(("account", "qos", "gres")) for option in options)
    assert script.rstrip().endswith(f" {sys.executable} -u -m submitit.core._submit {jobs}/%j")
    assert [path for path in jobs.rglob("*") if path.is_file() and b"t0ken" in path.read_bytes()] == []


@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm"])
def test_a_run_outlasts_the_time_limit_of_its_job(launcher: str, tmp_path: Path) -> None:
    """48 steps take 32 seconds; USR1 comes after 30 seconds (a limit of one minute) or 20."""
    environment = slurm(tmp_path / "slurm", usr1=20)
    swept = sweep(launcher, tmp_path, *SLOW, "hydra.launcher.timeout_min=1", "seed=0", **environment, PAUSE="0.67")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    printed = "".join(path.read_text() for path in (tmp_path / "runs" / "submitit").rglob("*_log.out"))
    printed += (tmp_path / "slurm" / "out").read_text() if launcher == "submitit_slurm" else ""
    assert "preempted" in printed and "Caught signal SIGUSR1" in printed and "Requeued job" in printed
    (record,) = records_in(tmp_path / "runs")
    assert command(*TOY, *SLOW, "seed=0", f"results_dir={tmp_path / 'uninterrupted'}") == 0
    (uninterrupted,) = records_in(tmp_path / "uninterrupted")
    assert record["status"] == "done"
    assert (record["history"], record["final"]) == (uninterrupted["history"], uninterrupted["final"])
