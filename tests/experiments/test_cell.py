"""One run: skipped or trained, and every way it can end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_running import running
from toy_runs import ADAPTED, PROBED, TOY, Net, command, compose, records_in

import dlrt
from experiments import cell, evaluation, execution
from experiments import running as notes
from experiments.checkpoints import Snapshot
from experiments.evaluation import accuracy
from experiments.records import Store, identity, key_of, name_of

TESTS = Path(__file__).resolve().parents[1]


def process(*arguments: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command_line = [sys.executable, "-m", "experiments.run", *arguments]
    return subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True, env=env, cwd=TESTS.parent)


def only_record(results_dir: Path) -> dict[str, Any]:
    (record,) = records_in(results_dir)
    return record


@pytest.mark.parametrize(
    ("status", "trained_again_under"),
    [
        ("done", {"all"}),
        ("diverged", {"all", "diverged"}),
        ("failed", {"all", "diverged", "failed"}),
        ("preempted", {"all", "diverged", "failed"}),
    ],
)
@pytest.mark.parametrize("rerun", ["none", "failed", "diverged", "all"])
def test_a_recorded_run_is_trained_again_only_if_rerun_says_so(
    status: str,
    trained_again_under: set[str],
    rerun: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = identity(compose(*TOY))
    key = key_of(config)
    provenance = {"commit": "c0ffee" * 6, "dirty": True}
    Store(tmp_path).write({"key": key, "name": name_of(config), "status": status, "provenance": provenance})
    trained = []
    monkeypatch.setattr(cell, "train", lambda cfg, config, *_: trained.append(config) or {"status": "done"})
    command(*TOY, f"results_dir={tmp_path}", f"rerun={rerun}")
    assert trained == [config] * (rerun in trained_again_under)
    said = f"recorded already ({status}, key {key}, commit c0ffeec0f, with uncommitted changes)"
    assert (said in capsys.readouterr().out) != bool(trained)


def test_a_failed_run_is_recorded_with_its_traceback_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*TOY, "+model.kwargs.mode=raise", f"results_dir={tmp_path}") == 1
    record = only_record(tmp_path)
    error = record["error"]
    assert (record["status"], record["final"], record["history"]) == ("failed", None, [])
    assert (error["kind"], error["message"], error["epoch"]) == ("RuntimeError", "a bug in the forward pass", 1)
    assert "in forward\n" in error["traceback"] and error["traceback"] in capsys.readouterr().err
    assert command(*TOY, "+model.kwargs.mode=raise", f"results_dir={tmp_path}", "rerun=none") == 1


@pytest.mark.parametrize("integrator", ["abc_psi", "dense"])
def test_divergence_is_a_result(integrator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TOY, f"integrator={integrator}", "+model.kwargs.mode=diverge", f"results_dir={tmp_path}"]
    assert command(*arguments) == 0
    record = only_record(tmp_path)
    assert (record["status"], record["final"]) == ("diverged", None)
    assert (record["error"]["kind"], record["error"]["epoch"]) == ("Divergence", 1)
    printed = capsys.readouterr()
    assert "diverged after 0:00 in epoch 1: " in printed.out and printed.err == ""


@pytest.mark.parametrize("integrator", ["abc_psi", "dense"])
def test_a_diverged_run_names_the_layer(integrator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a step of 1e30 the first layer's outputs are of that size, and the second's its square: beyond float32."""
    large = ["trainer.lr=1e30", "trainer.warmup_steps=0", "integrator.decay=0", f"integrator={integrator}"]
    assert command(*TOY, *large, f"results_dir={tmp_path}") == 0
    record = only_record(tmp_path)
    assert record["status"] == "diverged" and record["error"]["layer"] == "2"
    assert "in epoch 1, layer 2: " in capsys.readouterr().out


def test_a_run_that_only_guesses_at_the_papers_epoch_is_diverged(tmp_path: Path) -> None:
    rule = ["trainer.collapse_epoch=1", "trainer.collapse_accuracy=1", "trainer.lr=1e-6"]
    assert command(*TOY, *rule, f"results_dir={tmp_path}") == 0
    record = only_record(tmp_path)
    assert (record["status"], record["error"]["kind"], record["error"]["epoch"]) == ("diverged", "Collapse", 1)
    assert len(record["history"]) == 1


def test_the_papers_protocol_keeps_test_accuracies_under_their_own_name(tmp_path: Path) -> None:
    assert command(*TOY, "+data.kwargs.val=false", "trainer.select=test", f"results_dir={tmp_path}") == 0
    record = only_record(tmp_path)
    tested = [row["test_accuracy_paper_protocol"] for row in record["history"]]
    final = record["final"]
    assert final["selected_by"] == "test_accuracy_paper_protocol" and final["val_accuracy"] is None
    assert final["test_accuracy"] == max(tested) == tested[final["epoch"] - 1]


def test_an_ignored_key_is_said_and_is_null_in_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*TOY, "integrator=bug", "tau=0.2", f"results_dir={tmp_path}") == 0
    assert "note: tau is ignored: integrator=bug does not use it\n" in capsys.readouterr().out
    assert only_record(tmp_path)["config"]["tau"] is None
    assert command(*TOY, "integrator=bug", "tau=0.3", f"results_dir={tmp_path}") == 0
    assert "recorded already" in capsys.readouterr().out


def test_a_run_starts_from_an_earlier_runs_weights(tmp_path: Path) -> None:
    assert command(*TOY, "integrator=dense", f"results_dir={tmp_path}") == 0
    dense = only_record(tmp_path)
    barely = ["trainer.lr=1e-9", "rank=8", "tau=0", "init=svd", f"weights='{dense['key']}'"]
    assert command(*TOY, *barely, f"results_dir={tmp_path}") == 0
    (low_rank,) = (record for record in records_in(tmp_path) if record["key"] != dense["key"])
    assert low_rank["final"]["test_accuracy"] == dense["final"]["test_accuracy"]
    assert low_rank["config"]["weights"] == dense["key"]
    assert dense["start"] is None


def test_a_run_from_weights_records_what_their_truncation_is_worth(tmp_path: Path) -> None:
    assert command(*TOY, "integrator=dense", f"results_dir={tmp_path}") == 0
    dense = only_record(tmp_path)
    for rank in (8, 1):
        fixed = ["integrator=bug", "trainer.lr=1e-9", f"rank={rank}", "init=svd", f"weights='{dense['key']}'"]
        assert command(*TOY, *fixed, f"results_dir={tmp_path}") == 0
    full, cut = sorted((r for r in records_in(tmp_path) if r["start"]), key=lambda r: -r["config"]["rank"])
    assert full["start"]["test_accuracy"] == dense["final"]["test_accuracy"]
    assert cut["start"]["test_accuracy"] == cut["final"]["test_accuracy"] < dense["final"]["test_accuracy"]
    assert set(cut["start"]["ranks"].values()) == {1}


def test_tuning_never_looks_at_the_test_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def recorded(net: Any, data: Any, part: str, cfg: dict[str, Any]) -> float:
        asked.append(part)
        return accuracy(net, data, part, cfg)

    monkeypatch.setattr(evaluation, "accuracy", recorded)
    monkeypatch.setattr(execution, "accuracy", recorded)
    assert command(*TOY, "trainer.select=tuning", f"results_dir={tmp_path}") == 0
    final = only_record(tmp_path)["final"]
    assert final["test_accuracy"] is None and final["val_accuracy"] > 0
    assert set(asked) == {"val"}


@pytest.mark.parametrize(
    "line",
    [ADAPTED, (*ADAPTED, "integrator=lora"), (*ADAPTED, "integrator=adalora", "integrator.rank_budget=4"), PROBED],
)
def test_a_fine_tuning_run_saves_what_it_trained(line: tuple[str, ...], tmp_path: Path) -> None:
    assert command(*TOY, *line, f"results_dir={tmp_path}") == 0
    record = only_record(tmp_path)
    assert record["config"]["adapters"]["name"] in ("vit", "probe")
    saved = Store(tmp_path).load_weights(record["key"])
    numbers = sum(x.numel() for name, x in saved.items() if not name.endswith("kept"))
    assert numbers == record["final"]["trainable_params"] < 195
    if record["final"]["ranks"]:
        assert record["history"][-1]["adapter_params"] > 0 and record["final"]["ranks"].keys() == {"0", "2"}
        reloaded = dlrt.load_adapters(Net(), Store(tmp_path).weights_path(record["key"]))
        ranks = {name: layer.rank for name, layer in dlrt.adapters_of(reloaded).items()}
        assert ranks == record["final"]["ranks"]


def test_the_record_names_no_place_and_the_run_finds_it(tmp_path: Path) -> None:
    """The target is called with the path, which the record does not have."""
    weights = tmp_path / "weights.pt"
    torch.save(Net().state_dict(), weights)
    line = [*TOY, "model.target=toy_runs:net_from", f"model.weights={weights}", "trainer.lr=1e-9"]
    assert command(*line, f"results_dir={tmp_path}") == 0
    record = only_record(tmp_path)
    assert record["config"]["model"]["weights"].startswith("sha256:")
    assert command(*line, f"results_dir={tmp_path}") == 0  # recorded already
    assert only_record(tmp_path)["timing"] == record["timing"]


@pytest.mark.parametrize("launcher", ["basic", "processes", "joblib"])
def test_a_terminated_run_is_recorded_as_preempted(launcher: str, tmp_path: Path) -> None:
    """Beside workers that have nothing to do, whose death must not be that of the busy one."""
    jobs = [] if launcher == "basic" else ["hydra.launcher.n_jobs=3"]
    arguments = [*TOY, f"hydra/launcher={launcher}", *jobs, "trainer.epochs=100000", f"results_dir={tmp_path}"]
    started = process("-m", *arguments)
    assert started.stdout is not None and "epoch 1/100000" in started.stdout.readline()
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 128 + signal.SIGTERM
    record = only_record(tmp_path)
    assert (record["status"], record["error"]["kind"]) == ("preempted", "Preempted")
    assert len(record["history"]) >= 1
    assert len(list((tmp_path / "checkpoints" / record["key"]).iterdir())) == 1


def test_a_signal_that_comes_after_the_last_step_stops_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = ["model.target=toy_runs:Signalled", "trainer.epochs=1", "trainer.warmup_steps=0", "seed=0,1,2"]
    assert command("-m", *TOY, *once, f"results_dir={tmp_path}") == 128 + signal.SIGTERM
    assert [record["status"] for record in records_in(tmp_path)] == ["done"]
    assert "0 of 3 runs failed, 2 are left" in capsys.readouterr().out


def test_what_another_process_has_just_trained_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever rerun says: this process has waited for it."""
    assert command(*TOY, f"results_dir={tmp_path}") == 0
    record, lock = only_record(tmp_path), Store.lock

    @contextmanager
    def waiting(self: Store, *arguments: Any) -> Iterator[None]:
        with lock(self, *arguments):
            self.write(record | {"timing": record["timing"] | {"started": "2030-01-01T00:00:00+00:00"}})
            yield

    monkeypatch.setattr(Store, "lock", waiting)
    capsys.readouterr()
    assert command(*TOY, f"results_dir={tmp_path}", "rerun=all") == 0
    assert "recorded already" in capsys.readouterr().out
    assert only_record(tmp_path)["timing"]["started"].startswith("2030")


def test_a_note_that_a_killed_rerun_has_left_goes_with_the_next_call(tmp_path: Path) -> None:
    assert command(*TOY, f"results_dir={tmp_path}") == 0
    key = only_record(tmp_path)["key"]
    notes.note(tmp_path, running({"key": key, "name": "a-run"}))
    assert command(*TOY, f"results_dir={tmp_path}") == 0
    assert notes.noted(tmp_path) == {}


def test_weights_that_cannot_be_saved_are_a_failure_without_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights").touch()
    assert command(*TOY, f"results_dir={tmp_path}") == 1
    record = only_record(tmp_path)
    assert record["status"] == "failed" and record["final"] is None
    assert "test accuracy" not in capsys.readouterr().out


def test_runs_have_the_threads_that_they_ask_for_and_the_next_those_of_before(tmp_path: Path) -> None:
    timing = [word for word in TOY if not word.startswith("threads")] + ["task=time_training", "timing.repeats=1"]
    before = torch.get_num_threads()
    assert command("-m", *timing, f"threads={before + 1},null", f"results_dir={tmp_path}") == 0
    found = {record["config"]["threads"]: record["provenance"]["threads"] for record in records_in(tmp_path)}
    assert found == {before + 1: before + 1, None: before} and torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("status", "rerun", "goes_on"),
    [
        (None, "failed", True),
        (None, "all", True),
        ("preempted", "failed", True),
        ("preempted", "all", True),  # a scheduler that queues it again repeats the command
        ("failed", "failed", True),
        ("failed", "all", False),
        ("diverged", "diverged", False),
        ("done", "all", False),
    ],
)
def test_a_run_goes_on_unless_it_is_to_be_done_again(status: str | None, rerun: str, goes_on: bool) -> None:
    def snapshot(started: str) -> Snapshot:
        return Snapshot(1, {}, None, {}, {"run": {"timing": {"started": started}}})

    class Kept:
        def readable(self) -> Any:
            yield snapshot("2026-01-01T00:00:00")

    def taken(started: str) -> bool:
        record = None if status is None else {"status": status, "timing": {"started": started}}
        return bool(list(cell.unfinished(Kept(), record, rerun)))  # type: ignore[arg-type]

    assert taken("2026-01-01T00:00:00") == goes_on
    assert taken("2025-12-31T23:59:59")  # the record is an earlier attempt's


def test_a_second_process_waits_for_the_run_and_does_not_train_it(tmp_path: Path) -> None:
    arguments = [*TOY, "trainer.epochs=40", f"results_dir={tmp_path}"]
    both = [process(*arguments) for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("recorded already" in text for text in said) == [False, True]
    assert sorted("epoch 40/40" in text for text in said) == [False, True]
