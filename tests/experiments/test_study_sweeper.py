"""hydra/sweeper=optuna on the command line, with runs of milliseconds."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_runs import TOY, command, records_in

from experiments import study_sweeper

pytest.importorskip("optuna", reason="needs pip install -e '.[optuna]'")
SEARCH = ("-m", "hydra/sweeper=optuna", *TOY)


def search(*arguments: str) -> int | str:
    return command(*SEARCH, *arguments)


def keys_in(folder: Path) -> set[str]:
    return {record["key"] for record in records_in(folder)}


def test_a_search_trains_what_is_suggested_and_ends_with_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(f"results_dir={tmp_path}", "hydra.sweeper.n_trials=6") == 0
    runs = records_in(tmp_path)
    assert len({(run["config"]["tau"], run["config"]["trainer"]["lr"]) for run in runs}) == 6
    assert all(0.02 <= run["config"]["tau"] <= 0.4 and 0.02 <= run["config"]["trainer"]["lr"] <= 1 for run in runs)
    printed = capsys.readouterr().out.splitlines()
    (head,) = (line for line in printed if line.startswith("best in val_accuracy and compression: "))
    best = [line for line in printed if line.startswith("  tau=")]
    assert head.endswith(f": {len(best)} of 6 runs")
    reached = [(run["final"]["val_accuracy"], run["final"]["compression"]) for run in runs]
    front = {a for a in reached if not any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in reached)}
    assert sorted(run["key"] for run, point in zip(runs, reached, strict=True) if point in front) == sorted(
        line.rpartition("(key ")[2].rstrip(")") for line in best
    )


def test_a_study_called_again_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    few = "+hydra.sweeper.sampler_options.n_startup_trials=2"  # what comes after these depends on what they reached
    assert search(f"results_dir={whole}", few, "hydra.sweeper.n_trials=6") == 0
    assert search(f"results_dir={parts}", few, "hydra.sweeper.n_trials=3") == 0
    assert len(keys_in(parts)) == 3
    capsys.readouterr()
    assert search(f"results_dir={parts}", few, "hydra.sweeper.n_trials=6") == 0
    assert capsys.readouterr().out.count("recorded already (done, key ") == 3
    assert keys_in(parts) == keys_in(whole)


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    arguments = ("trainer.epochs=5", "hydra.sweeper.n_trials=5")
    words = [sys.executable, "-m", "experiments.run", *SEARCH, *arguments, "hydra/launcher=basic"]
    process = subprocess.Popen([*words, f"results_dir={killed}"], stdout=subprocess.DEVNULL,
                               env={"PYTHONPATH": "tests", "OMP_NUM_THREADS": "1"})  # fmt: skip
    while len(list((killed / "records").glob("*.json"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 2 <= len(keys_in(killed)) < 5
    assert search(*arguments, f"results_dir={killed}") == 0
    assert search(*arguments, f"results_dir={whole}") == 0
    assert keys_in(killed) == keys_in(whole) and len(keys_in(whole)) == 5


def test_the_command_line_has_the_last_word_on_what_is_searched(tmp_path: Path) -> None:
    given = ("tau=0.1", "integrator=abc_psi,aug_bug", "rank=int(interval(2,4))", "objective=[compression]")
    fixed = [argument for argument in TOY if not argument.startswith("rank=")]
    end = command("-m", "hydra/sweeper=optuna", *fixed, *given, f"results_dir={tmp_path}", "hydra.sweeper.n_trials=6")
    runs = [run["config"] for run in records_in(tmp_path)]
    assert end == 0 and len(runs) == 6
    assert {run["tau"] for run in runs} == {0.1}
    assert {run["integrator"]["name"] for run in runs} == {"abc_psi", "aug_bug"}
    assert {run["rank"] for run in runs} <= {2, 3, 4} and len({run["rank"] for run in runs}) > 1


def test_failed_and_diverged_runs_do_not_end_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    modes = "+model.kwargs.mode=ok,diverge,raise"
    assert search(modes, f"results_dir={tmp_path}", "hydra.sweeper.n_trials=8") == 1
    found = {(run["config"]["model"]["kwargs"]["mode"], run["status"]) for run in records_in(tmp_path)}
    assert found == {("ok", "done"), ("diverge", "diverged"), ("raise", "failed")}
    assert "runs failed, 0 are left" in capsys.readouterr().out


def test_several_trials_at_a_time_go_to_the_launcher_together(tmp_path: Path) -> None:
    parallel = ("hydra/launcher=processes", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2")
    assert search(*parallel, "hydra.sweeper.n_trials=3", f"results_dir={tmp_path}") == 0
    assert len(records_in(tmp_path)) == 3


def test_the_sweep_is_noted_for_experiments_status(tmp_path: Path) -> None:
    assert search("hydra.sweeper.n_trials=2", f"results_dir={tmp_path}") == 0
    (note,) = (json.loads(path.read_text()) for path in (tmp_path / "sweeps").glob("*.json"))
    assert note["name"] == "search over tau, trainer.lr" and note["left_open"] == 0
    assert {cell["key"] for cell in note["cells"]} == keys_in(tmp_path)


def test_a_key_that_means_nothing_is_said_to_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search("integrator=bug", "hydra.sweeper.n_trials=2", f"results_dir={tmp_path}") == 0
    assert capsys.readouterr().out.count("note: tau is ignored: integrator=bug does not use it") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["experiment=demo"], "experiment=demo is a sweep of its own: leave out hydra/sweeper=optuna"),
        (["tau=tag(log,interval(0.02,1.4))"], "tau=1.4 must lie in [0, 1)"),
        (["tau=0.1", "trainer.lr=0.1"], "hydra/sweeper=optuna has nothing to search"),
        (["objective=[val_acuracy]"], "did you mean 'val_accuracy'?"),
        (["trainer.select=test"], "trainer.select=test: a search must not look at test data"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: give a whole number of at least 1"),
        (["hydra.sweeper.n_jobs=two"], "hydra.sweeper.n_jobs=two: give a whole number of at least 1"),
        (["hydra.sweeper.sampler=grid"], "choose one of tpe, nsgaii, random"),
        (["+hydra.sweeper.sampler_options.typo=1"], "unexpected keyword argument 'typo'"),
        (["typo=interval(0,1)"], "typo"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_trained(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = search(*arguments, f"results_dir={tmp_path}")
    assert isinstance(end, str) and sentence in end and "\n" not in end
    assert records_in(tmp_path) == [] and capsys.readouterr().out == ""


def test_without_the_plugin_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_sweeper, "PACKAGE", "hydra_plugins_that_are_not_there")
    assert search(f"results_dir={tmp_path}") == (
        "hydra/sweeper=optuna: its plugin is not installed; pip install -e '.[optuna]'"
    )
