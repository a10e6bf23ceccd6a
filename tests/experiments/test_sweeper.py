"""Sweeps: what is run in which order, and how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_runs import TOY, command, records_in

from experiments.sweeper import group_of

TESTS = Path(__file__).resolve().parents[1]


def printed_names(out: str) -> list[str]:
    """The runs in the order in which they ended."""
    return [line.split(" [")[0] for line in out.splitlines() if ": done after" in line]


def test_a_sweep_goes_on_past_a_failing_and_a_diverging_run_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modes = "+model.kwargs.mode=raise,diverge,ok"
    assert command("-m", *TOY, modes, "integrator=abc_psi,dense", f"results_dir={tmp_path}") == 1
    statuses = {r["config"]["model"]["kwargs"]["mode"]: r["status"] for r in records_in(tmp_path)}
    assert statuses == {"raise": "failed", "diverge": "diverged", "ok": "done"} and len(records_in(tmp_path)) == 6
    out = capsys.readouterr().out
    assert "2 of 6 runs failed, 0 are left" in out
    *_, first_log, second_log, _ = lines = out.splitlines()
    summary = [line.split() for line in lines[-9:-3]]
    for line in (first_log, second_log):
        assert "a bug in the forward pass" in Path(line.split(": see ")[1]).read_text()
    assert [row[2] for row in summary] == ["failed", "failed", "diverged", "diverged", "done", "done"]


@pytest.mark.parametrize("launcher", ["processes", "joblib"])
def test_five_of_eight_runs_are_done_though_one_diverges_one_raises_and_one_is_killed(
    launcher: str, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    arguments = [*TOY, "model.target=toy_runs:Fragile", f"+model.kwargs.mended={mended}", f"results_dir={tmp_path}"]
    sweep = ["-m", *arguments, "+model.kwargs.mode=diverge,kill,stumble,ok,a,b,c,d", f"hydra/launcher={launcher}"]
    code, out = run_command(*sweep, "hydra.launcher.n_jobs=2")
    assert code == 1 and "2 of 8 runs failed, 0 are left" in out
    assert states(out) == ["diverged", "killed", "failed", "done", "done", "done", "done", "done"]
    statuses = sorted(record["status"] for record in records_in(tmp_path))
    assert statuses == ["diverged", "done", "done", "done", "done", "done", "failed"]
    assert {path.stem for path in (tmp_path / "running").iterdir()} == {killed_key(out)}
    mended.touch()
    code, out = run_command(*sweep)
    assert code == 0 and states(out) == ["diverged", *["done"] * 7]
    assert out.count("recorded already (done") == 5 and not list((tmp_path / "running").iterdir())


def run_command(*arguments: str) -> tuple[int, str]:
    """The exit code and output of `python -m experiments.run ARGUMENTS`, in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "experiments.run", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, env=env, cwd=TESTS.parent, timeout=300)
    return done.returncode, done.stdout


def summary_of(out: str) -> list[list[str]]:
    """The words of the summary's rows."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("run  "))
    return [line.split() for line in lines[start + 1 :] if line.startswith("abc_psi-") and ": see " not in line]


def states(out: str) -> list[str]:
    return [row[2] for row in summary_of(out)]


def killed_key(out: str) -> str:
    (key,) = (row[1] for row in summary_of(out) if row[2] == "killed")
    return key


def test_a_sweep_with_a_diverged_run_only_exits_with_0(tmp_path: Path) -> None:
    assert command("-m", *TOY, "+model.kwargs.mode=diverge,ok", f"results_dir={tmp_path}") == 0


def test_nothing_is_trained_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["-m", *TOY, "integrator=abc_psi,aug_bug", "tau=0.05,0.1", "seed=0,1", f"results_dir={tmp_path}"]
    assert command(*sweep) == 0
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "records").glob("*.json")}
    assert len(first) == 8
    capsys.readouterr()
    assert command(*sweep) == 0
    out = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "records").glob("*.json")} == first
    assert out.count("recorded already (done, key ") == 8 and "epoch" not in out


def test_seeds_are_innermost_wherever_they_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("-m", *TOY, "seed=0,1", "tau=0.05,0.1", f"results_dir={tmp_path}") == 0
    tails = [name.partition("-tau")[2] for name in printed_names(capsys.readouterr().out)]
    assert tails == [f"{tau}-rank4-seed{seed}" for tau in (0.05, 0.1) for seed in (0, 1)]


def test_an_integrator_of_fixed_rank_has_one_run_per_rank_not_one_per_tau(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = [*TOY, "integrator=bug", "tau=0.05,0.1,0.2", "rank=2,3", f"results_dir={tmp_path}"]
    assert command("-m", *[argument for argument in sweep if argument != "rank=4"]) == 0
    assert sorted((r["config"]["tau"], r["config"]["rank"]) for r in records_in(tmp_path)) == [(None, 2), (None, 3)]
    out = capsys.readouterr().out
    assert out.count("note: tau is ignored: integrator=bug does not use it") == 1
    assert "4 of 6 runs repeat others of this sweep: left out" in out


def test_one_impossible_cell_stops_the_sweep_before_the_first(tmp_path: Path) -> None:
    end = command("-m", *TOY, "integrator.min_rank=1,2,9", f"results_dir={tmp_path}")
    assert end == "integrator.min_rank=9 is above the start rank=4: lower it or raise rank"
    assert records_in(tmp_path) == []


def test_a_batch_size_splits_what_the_launcher_gets(tmp_path: Path) -> None:
    assert command("-m", *TOY, "seed=0,1,2", "hydra.sweeper.max_batch_size=2", f"results_dir={tmp_path}") == 0
    assert [r["config"]["seed"] for r in records_in(tmp_path)] == [0, 1, 2]


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_three_jobs_leave_three_records_and_three_wandb_runs_and_do_not_garble_each_other(
    launcher: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    workers = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    logger = ["logger=wandb", "logger.mode=offline"]
    sweep = [*TOY, "seed=0,1,2", f"hydra/launcher={launcher}", *workers, *logger, f"results_dir={tmp_path}"]
    assert command("-m", *sweep) == 0
    records = records_in(tmp_path)
    assert [record["status"] for record in records] == ["done"] * 3
    lines = capfd.readouterr().out.splitlines()
    for record in records:
        mine = [line for line in lines if line.startswith(f"{record['name']} [{record['key'][:4]}]  epoch ")]
        assert [line.split("epoch ")[1][:3] for line in mine] == ["1/2", "2/2"]
    runs = [wandb_run(file) for file in (tmp_path / "wandb").glob("offline-run-*/*.wandb")]
    logged = sorted((run["name"], run["config"]["seed"], run["summary"]["status"]) for run in runs)
    assert logged == [(record["name"], record["config"]["seed"], "done") for record in records]


def wandb_run(file: Path) -> dict[str, Any]:
    """What W&B's own reader finds in an offline run."""
    tool = Path(sys.executable).with_name("wandb")
    command_line = [tool, "leet", "inspect", "--json", "--summary", file]
    shown = subprocess.run(command_line, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_the_wandb_group_is_the_preset_or_what_varies() -> None:
    assert group_of({"experiment": ["experiment=demo"], "seed": ["seed=0", "seed=1"]}) == "demo"
    assert group_of({"tau": ["tau=0.1", "tau=0.2"], "seed": ["seed=0"]}) == "tau=0.1,0.2"
    assert len(group_of({"seed": [f"seed={n}" for n in range(100)]})) == 128
