"""Faults that are caused for real: the run goes on as if nothing had been, or ends with one sentence."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_runs import Started
from safetensors.torch import load_file
from toy_runs import TOY, command, records_in

SLOW = (
    *TOY,
    "model.target=fault_runs:Net",
    "+model.kwargs.width=64",
    "+model.kwargs.pause=0.02",
    "integrator.optimizer=adam",
    "rank=8",
    "tau=0.5",
    "trainer.lr=0.1",
    "trainer.epochs=8",
)
OFTEN = "checkpoint_seconds=0.01"
OFFLINE = ("logger=wandb", "logger.mode=offline")
Result = tuple[dict[str, Any], dict[str, bytes]]


def result(folder: Path) -> Result:
    """The record without what differs between two runs, and the bits of the weights."""
    (record,) = records_in(folder)
    (weights,) = (folder / "weights").iterdir()
    kept = {key: value for key, value in record.items() if key not in ("timing", "provenance")}
    return kept, {name: x.numpy().tobytes() for name, x in load_file(weights).items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What SLOW comes to if nothing happens; its ranks change, so that checkpoints of many shapes are written."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert command(*SLOW, f"results_dir={folder}") == 0
    expected = result(folder)
    assert len({tuple(row["ranks"].values()) for row in expected[0]["history"]}) > 2
    return expected


def status_in(folder: Path) -> str:
    (record,) = records_in(folder)
    return str(record["status"])


def checkpoints_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoints/*/step-*"))


def limited(size: int) -> Callable[[], None]:
    """As a full disk: no file may grow beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_run_killed_at_many_moments_ends_with_the_same_bits(undisturbed: Result, tmp_path: Path) -> None:
    arguments = (*SLOW, OFTEN, f"results_dir={tmp_path}")
    went_on = 0
    for word, wait in (("", 0.1), ("epoch 1/", 0.0), ("goes on", 0.03), ("goes on", 0.11), ("epoch 7/", 0.0)):
        run = Started(*arguments).until(word)
        time.sleep(wait)
        assert run.send(signal.SIGKILL).end() == -signal.SIGKILL
        went_on += "goes on after step" in run.said
    assert records_in(tmp_path) == [] and went_on >= 3
    assert command(*arguments) == 0
    assert result(tmp_path) == undisturbed
    assert not (tmp_path / "checkpoints").exists() or checkpoints_in(tmp_path) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_a_run_after_its_step_and_the_next_call_goes_on(
    signum: signal.Signals, undisturbed: Result, tmp_path: Path
) -> None:
    arguments = (*SLOW, f"results_dir={tmp_path}")
    run = Started(*arguments).until("epoch 3/").send(signum)
    assert run.end() == 128 + signum and f": stopped by {signum.name}" in run.said
    assert status_in(tmp_path) == "preempted" and len(checkpoints_in(tmp_path)) == 1
    again = Started(*arguments)
    assert again.end() == 0 and "goes on after step" in again.said
    assert result(tmp_path) == undisturbed


def test_a_signal_closes_the_wandb_run_and_the_next_call_goes_on_with_it(tmp_path: Path) -> None:
    arguments = (*SLOW, *OFFLINE, f"results_dir={tmp_path}")
    run = Started(*arguments).until("epoch 3/").send(signal.SIGTERM)
    assert run.end() == 128 + signal.SIGTERM and "W&B stopped" not in run.said
    (first,) = (tmp_path / "wandb").glob("offline-*/*.wandb")
    epochs, summary = logged(first)
    assert epochs[:3] == [1, 2, 3] and (summary["exit_code"], summary["summary"]["status"]) == (1, "preempted")
    time.sleep(1)  # W&B's folders have the second in their name
    assert Started(*arguments).end() == 0
    (second,) = {*(tmp_path / "wandb").glob("offline-*/*.wandb")} - {first}
    epochs, summary = logged(second)
    assert second.name == first.name and epochs == list(range(1, 9)) and summary["summary"]["status"] == "done"


def logged(file: Path) -> tuple[list[int], dict[str, Any]]:
    """The epochs of an offline W&B run, and its summary, as W&B's own reader finds them."""
    tool = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    lines, summary = (
        subprocess.run([*tool, *option, file], check=True, capture_output=True, text=True).stdout
        for option in ([], ["--summary"])
    )
    items = [json.loads(line) for line in lines.splitlines()]
    return [item["history"]["item"]["epoch"] for item in items if item["type"] == "history"], json.loads(summary)


def test_a_second_process_takes_over_when_the_first_is_killed(undisturbed: Result, tmp_path: Path) -> None:
    arguments = (*SLOW, OFTEN, f"results_dir={tmp_path}")
    first = Started(*arguments).until("epoch 2/")
    first.send(signal.SIGSTOP)  # it would be done before the second has begun
    second = Started(*arguments).until("is being trained by another process: waiting for it")
    first.send(signal.SIGKILL).end()
    assert second.end() == 0 and "goes on after step" in second.said
    assert result(tmp_path) == undisturbed


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_truncated_checkpoint_costs_the_steps_since_the_one_before(
    damaged: int, undisturbed: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (*SLOW, OFTEN, f"results_dir={tmp_path}")
    Started(*arguments).until("epoch 4/").send(signal.SIGTERM).end()
    before, last = checkpoints_in(tmp_path)
    for place in (last, before)[:damaged]:
        damage(place / "state.pt")
    assert command(*arguments) == 0
    out = capsys.readouterr().out
    assert out.count("cannot be read and is left out") == damaged
    assert (f"goes on after step {int(before.name[5:])}" in out) == (damaged == 1)
    assert result(tmp_path) == undisturbed


def test_a_run_goes_on_though_no_checkpoint_can_be_written(undisturbed: Result, tmp_path: Path) -> None:
    run = Started(*SLOW, OFTEN, f"results_dir={tmp_path}", prepare=limited(12_000))
    assert run.end() == 0 and "no checkpoint could be written, the run goes on without (" in run.said
    assert "Traceback" not in run.said and result(tmp_path) == undisturbed
    assert not list(tmp_path.glob("checkpoints/*/*"))


def test_a_record_that_cannot_be_written_is_one_sentence_and_the_run_goes_on_later(
    undisturbed: Result, tmp_path: Path
) -> None:
    arguments = (*SLOW, OFTEN, f"results_dir={tmp_path}")
    Started(*arguments).until("epoch 6/").send(signal.SIGKILL).end()
    run = Started(*arguments, prepare=limited(6_000))  # weights have 3 kB, the record 8
    assert run.end() == 1 and "Traceback" not in run.said
    assert "cannot be written (File too large): make room or give another results_dir" in run.said.splitlines()[-1]
    assert records_in(tmp_path) == [] and not list(tmp_path.glob("records/.*"))
    again = Started(*arguments)
    assert again.end() == 0 and "goes on after step" in again.said
    assert result(tmp_path) == undisturbed


def test_weights_that_cannot_be_written_fail_the_run_and_it_goes_on_later(undisturbed: Result, tmp_path: Path) -> None:
    arguments = (*SLOW, OFTEN, f"results_dir={tmp_path}")
    Started(*arguments).until("epoch 6/").send(signal.SIGKILL).end()
    (tmp_path / "weights").write_text("a file in the folder's place")
    run = Started(*arguments)
    assert run.end() == 1 and status_in(tmp_path) == "failed" and checkpoints_in(tmp_path)
    (tmp_path / "weights").unlink()
    again = Started(*arguments)
    assert again.end() == 0 and "goes on after step" in again.said
    assert result(tmp_path) == undisturbed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("what", ["log", "output"])
def test_a_log_that_cannot_be_written_stops_no_run(what: str, undisturbed: Result, tmp_path: Path) -> None:
    name, key = undisturbed[0]["name"], undisturbed[0]["key"]
    (tmp_path / "logs").mkdir()
    if what == "log":
        (tmp_path / "logs" / f"{name}-{key}.log").symlink_to("/dev/full")
    full = (lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), 1)) if what == "output" else lambda: None
    run = Started(*SLOW, f"results_dir={tmp_path}", prepare=full)
    assert run.end() == 0 and "Traceback" not in run.said
    assert result(tmp_path) == undisturbed


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")])
@pytest.mark.parametrize("place", ["file", "file/folder", "/sys"])
def test_a_folder_that_cannot_be_written_is_one_sentence(place: str, sweep: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / place / ("runs" if place == "/sys" else "")
    end = command(*sweep, *TOY, f"results_dir={folder}")
    assert isinstance(end, str) and f"results_dir={folder}: cannot write there (" in end


@pytest.mark.parametrize(
    ("sweep", "text"), [((), ""), ((), "[]"), ((), "\0\0\0"), (("-m", "seed=1,2,0"), '{"schema": 1, "key": "')]
)
def test_half_a_record_is_one_sentence_before_anything_is_trained(
    sweep: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    assert command(*TOY, f"results_dir={tmp_path}") == 0
    (path,) = (tmp_path / "records").iterdir()
    path.write_text(text)
    end = command(*sweep, *TOY, f"results_dir={tmp_path}")
    assert isinstance(end, str) and str(path) in end and end.endswith("delete it") and len(end.splitlines()) == 1
    assert list((tmp_path / "records").iterdir()) == [path]


@pytest.mark.parametrize("sweep", [(), ("-m", "seed=0,1")])
def test_a_network_that_ends_the_process_is_a_failed_run(sweep: tuple[str, ...], tmp_path: Path) -> None:
    leaving = [*TOY, "model.target=fault_runs:Net", "+model.kwargs.mode=exit"]
    assert command(*sweep, *leaving, f"results_dir={tmp_path}") == 1
    records = records_in(tmp_path)
    assert [record["status"] for record in records] == ["failed"] * (2 if sweep else 1)
    assert records[0]["error"]["kind"] == "SystemExit"


@pytest.mark.slow
def test_with_on_error_raise_the_runs_beside_a_failed_one_keep_what_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [*SLOW, "trainer.epochs=2000", "+model.kwargs.mode=ok,exit,other", f"results_dir={tmp_path}"]
    two = ["hydra/launcher=processes", "hydra.launcher.n_jobs=2", "on_error=raise"]
    assert command("-m", *long, *two) == 1
    states = {record["config"]["model"]["kwargs"]["mode"]: record["status"] for record in records_in(tmp_path)}
    assert states == {"ok": "preempted", "exit": "failed"} and len(checkpoints_in(tmp_path)) == 1
    assert "1 of 3 runs failed, 2 are left; the same command goes on" in capsys.readouterr().out


def test_a_run_goes_on_without_the_service_of_wandb(undisturbed: Result, tmp_path: Path) -> None:
    run = Started(*SLOW, *OFFLINE, f"results_dir={tmp_path}").until("epoch 2/")
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(run.pid)], capture_output=True, text=True).stdout
    (service,) = (int(line.split()[0]) for line in listed.splitlines() if "wandb-core" in line)
    os.kill(service, signal.SIGKILL)
    assert run.end() == 0 and run.said.count("W&B stopped logging") == 1 and "Traceback" not in run.said
    assert result(tmp_path) == undisturbed
