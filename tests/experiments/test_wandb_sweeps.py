"""conf/wandb_sweeps: what W&B's own agent makes of each file is one run of experiments.run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from toy_runs import TOY, compose, records_in
from wandb.wandb_agent import Agent

from experiments.config import CONF
from experiments.validate import validate

SWEEPS = sorted((CONF / "wandb_sweeps").glob("*.yaml"))
BIN = Path(sys.executable).parent
ARGUMENTS = "${args_no_hyphens}"


def sweep(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def ends(parameter: dict[str, Any]) -> list[Any]:
    """The values of a parameter, or the ends of its range."""
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def given(path: Path, place: int = 0) -> dict[str, Any]:
    """The values that the server gives an agent: each parameter's first or last."""
    return {key: ends(parameter)[place] for key, parameter in sweep(path)["parameters"].items()}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_ends_of_all_parameters_are_possible_runs(path: Path, tmp_path: Path) -> None:
    fixed = [word for word in sweep(path)["command"] if "=" in word]
    for place in (0, -1):
        varied = [f"{key}={value}" for key, value in given(path, place).items()]
        validate(compose(*fixed, *varied, f"results_dir={tmp_path}"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_that_searches_uses_no_test_data_and_maximises_what_is_logged(path: Path) -> None:
    config = sweep(path)
    assert config["metric"] == {"name": "val_accuracy", "goal": "maximize"}
    assert config["method"] == "grid" or "trainer.select=tuning" in config["command"]
    assert ARGUMENTS in config["command"] and "logger=wandb" in config["command"]
    assert Path(CONF.parent, config["program"]).is_file()


def test_what_the_agent_calls_is_one_run_in_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = CONF / "wandb_sweeps" / "tau_lr_random.yaml"
    for variable in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # which the agent sets
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "tests")
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    runs, config = tmp_path / "runs", sweep(path)
    command = [word for word in config["command"] if word not in (ARGUMENTS, "recipe=tuned_mlp")]  # which is for MNIST
    command += [*TOY, f"results_dir={runs}", ARGUMENTS]
    agent = SimpleNamespace(_in_jupyter=False, _sweep_command=command, _function=None, _run_processes={},
                            _forward_signals=False)  # fmt: skip
    values = {key: {"value": value} for key, value in given(path).items()}
    Agent._command_run(agent, {"run_id": "run12345", "args": values, "program": config["program"]})

    assert agent._run_processes["run12345"].wait() == 0
    (record,) = records_in(runs)
    (file,) = (runs / "wandb").glob("offline-run-*/*.wandb")
    shown = subprocess.run(
        [BIN / "wandb", "leet", "inspect", "--json", file], check=True, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    (run,) = (line["run"] for line in lines if line["type"] == "run")
    assert (run["run_id"], run["sweep_id"]) == ("run12345", "sweep123")
    assert run["config"]["update"].items() >= given(path).items()
    logged = [line["history"]["item"]["val_accuracy"] for line in lines if line["type"] == "history"]
    assert logged[-1] == record["final"]["val_accuracy"] and record["config"]["tau"] == given(path)["tau"]
