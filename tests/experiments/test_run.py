"""The command line from outside: records it leaves, sentences it says, codes it exits with."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from toy_runs import TOY, command, records_in

from experiments.config import CONF

# Step 5 of 6, of which 2 warm up: cosine from 0.2 to 0 in 4 steps.
LAST_RATE = pytest.approx(0.2 * (1 + math.cos(3 / 4 * math.pi)) / 2)
MISTAKES = [
    (["tau=1.5"], "tau=1.5 must lie in [0, 1)"),
    (["integrator=foo"], "there is no integrator 'foo'; choose one of abc_psi, "),
    (["integrator=abcpsi"], "did you mean 'abc_psi'?"),
    (["integrator.name=foo"], "integrator.name=foo: choose one of abc_psi, "),
    (["integrator=null"], "integrator=null: give one of abc_psi, "),
    (["model=[1,2]"], "model=[1,2]: give one of import, "),
    (["model=mlp"], "there is no model 'mlp'; "),
    (["data=cifar"], "there is no data 'cifar'; "),
    (["logger=tensorboard"], "choose one of none, wandb"),
    (["experiment=dem"], "did you mean 'demo'?"),
    (["+tyop=1"], "unknown key 'tyop'"),
    (["++trainer.epoch=1"], "unknown key 'trainer.epoch': did you mean 'trainer.epochs'?"),
    (["tua=0.1"], "unknown key 'tua': did you mean 'tau'?"),
    (["epochs=3"], "unknown key 'epochs': did you mean 'trainer.epochs'?"),
    (["data.kwargs.cuont=3"], "+data.kwargs.cuont=… gives an argument that the YAML does not name"),
    (["+data.kwargs.cuont=3"], "did you mean 'count'?"),
    (["trainer.epochs=abc"], "trainer.epochs: Value 'abc' of type 'str' could not be converted to Integer"),
    (["rank=null"], "rank=null: the key needs a value"),
    (["~tau"], "tau has no value: give one with tau=…"),
    (["model.target=???"], "model.target has no value: give one with model.target=package.module:Name"),
    (["tau=["], "cannot read the override 'tau=['"),
    (["tau=0.1,0.2"], "tau=0.1,0.2: several values are a sweep; add -m"),
    (["experiment=demo"], "experiment=demo is a sweep of several runs: add -m"),
    (["model.skip=[nothing]"], "the pattern 'nothing' matches no layer"),
    (["+data.kwargs.val=false"], "data=import has no validation images"),
    (["integrator.decay=nan"], "integrator.decay=nan: a record cannot hold it"),
    (["experiment=demo", "budget=smoke"], "experiment=demo is a sweep of several runs: add -m"),
    (["budget=smoke"], "budget=smoke is for sweeps, and this is one run: add -m"),
    (["protocol=paper"], "protocol=paper is for presets that have protocols"),
    (["task=time"], "task=time: choose one of time_prediction, time_training, train"),
    (["timing.images=0"], "timing.images=0: give at least 1"),
    (["recipe=tuned"], "there is no recipe 'tuned'; "),
    (["-m", "protocol=paper"], "protocol=paper: there are no protocols to choose from here"),
    (["-m", "experiment=demo", "protocol=paper"], "protocol=paper: there are no protocols to choose from here"),
    (["-m", "budget=smoke,full"], "give one budget at a time"),
    (["-m", "budget=tiny"], "there is no budget 'tiny'; choose one of full, "),
    (["-m", "budget=smoke"], "budget=smoke: unknown key 'data.kwargs.train_limit'"),
    (["-m", "tau=0.1,1.5"], "tau=1.5 must lie in [0, 1)"),
    (["-m", "integrator=abc_psi,foo"], "there is no integrator 'foo'"),
    (["-m", "+tyop=1,2"], "unknown key 'tyop'"),
    (["-m", "tua=1,2"], "unknown key 'tua'"),
    (["-m", "tau=interval(0,1)"], "a sweep needs its values one by one"),
    (["-m", "experiment=demo,foo"], "give one preset at a time"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=[" ".join(given) for given, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_nothing_is_trained(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = [argument for argument in arguments if argument == "-m"]
    end = command(*sweep, *TOY, f"results_dir={tmp_path}/runs", *arguments[len(sweep) :])
    printed = capsys.readouterr()
    assert isinstance(end, str) and sentence in end and len(end.splitlines()) == 1
    assert printed.err == "" and printed.out == ""  # Python prints the sentence itself, when the process exits
    assert not (tmp_path / "runs" / "records").exists()


def test_a_process_with_a_mistake_prints_the_sentence_alone_and_exits_with_1(tmp_path: Path) -> None:
    command_line = [sys.executable, "-m", "experiments.run", "tau=1.5", f"results_dir={tmp_path}"]
    done = subprocess.run(command_line, capture_output=True, text=True, cwd=CONF.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "tau=1.5 must lie in [0, 1): it is the part of the norm that truncation may drop\n"


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_bug_keeps_its_traceback(sweep: list[str], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug in the constructor"):
        command(*sweep, *TOY, "+model.kwargs.mode=bug", f"results_dir={tmp_path}")


def test_a_run_leaves_one_record_of_the_specified_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*TOY, "tau=0.2", f"results_dir={tmp_path}") == 0
    (record,) = records_in(tmp_path)
    assert record["status"] == "done" and record["error"] is None and record["schema"] == 1
    assert record["name"] == "abc_psi-import-import-tau0.2-rank4-seed0"
    assert (tmp_path / "weights" / f"{record['key']}.safetensors").is_file()
    assert not {"results_dir", "device", "threads", "logger", "rerun", "blocks"} & record["config"].keys()
    first, last = record["history"]
    assert (first["epoch"], last["epoch"], last["lr"]) == (1, 2, LAST_RATE)
    assert last["ranks"].keys() == {"0", "2"} == last["singular_values"].keys()
    assert "test_accuracy_paper_protocol" not in last
    final = record["final"]
    assert final["selected_by"] == "val_accuracy" and final["shapes"] == {"0": [16, 8], "2": [3, 16]}
    assert final["eval_params"] == sum(r * sum(final["shapes"][name]) for name, r in final["ranks"].items())
    assert final["dense_params"] == 16 * 8 + 3 * 16 and final["params_low_rank"] == final["eval_params"]
    timing = record["timing"]
    assert set(timing) == {"started", "seconds", "epoch_seconds", "train_seconds", "step_seconds", "steps"}
    assert 0 < timing["step_seconds"] < timing["train_seconds"] < timing["seconds"]
    provenance = {"commit", "dirty", "versions", "device", "threads", "command", "data_source"}
    assert set(record["provenance"]) == provenance
    assert "python -m experiments.run model=import" in record["provenance"]["command"]
    assert "epoch 2/2  loss " in capsys.readouterr().out


@pytest.mark.parametrize("integrator", ["abc_psi", "dense"])
def test_two_runs_of_a_cell_are_identical_but_for_time_and_provenance(integrator: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert command(*TOY, f"integrator={integrator}", f"results_dir={tmp_path / folder}") == 0
    first, second = (
        {key: value for key, value in record.items() if key not in ("timing", "provenance")}
        for folder in ("one", "two")
        for record in records_in(tmp_path / folder)
    )
    assert first == second


def test_the_seed_changes_the_run(tmp_path: Path) -> None:
    assert command("-m", *TOY, "seed=0,1", f"results_dir={tmp_path}") == 0
    first, second = records_in(tmp_path)
    assert first["history"][0]["loss"] != second["history"][0]["loss"]
