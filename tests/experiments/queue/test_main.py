"""`python -m experiments.queue` from outside, its jobs run in this process."""

import contextlib
import io
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from toy_queue import FIXED_RANK, PRUNING, TOY
from toy_runs import records_in

from experiments import kept
from experiments.queue import __main__ as command
from experiments.queue.backlog import Job

LEFT = 75
FAILING = "integrator=dense '+model.kwargs.mode=raise,diverge,ok'"


class HerePool:
    """One worker: this process."""

    def __init__(self, size: int, quiet: bool) -> None:
        self.size, self.jobs, self._calls = size, list[Job](), list[Any]()

    @property
    def idle(self) -> bool:
        return not self.jobs

    def start(self, job: Job, call: Any, *arguments: Any) -> None:
        self.jobs.append(job)
        self._calls.append((call, arguments))

    def ended(self, seconds: float | None) -> list[tuple[Job, str]]:
        job, (call, arguments) = self.jobs.pop(), self._calls.pop()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return [(job, call(*arguments))]

    def stop(self) -> None:
        """Nothing runs when this is called."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Pool", HerePool)
    monkeypatch.chdir(tmp_path)


def queue(*lines: str, more: tuple[str, ...] = ()) -> int | str | None:
    """The exit code of a queue of these lines, or the text that it exits with."""
    Path("toy.txt").write_text("".join(f"{line}\n" for line in lines))
    try:
        return command.main(["toy.txt", *more, *TOY])
    except SystemExit as end:
        return end.code


def ended(out: str) -> list[str]:
    """The outcomes of the runs in the order in which they ended."""
    return [" ".join(found) for found in re.findall(r"^(\S+)-import-import\S* \[....\]: (\w+)", out, re.MULTILINE)]


def test_all_runs_of_a_queue_are_in_its_file_and_not_run_again_even_with_that_file_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert queue(FIXED_RANK, PRUNING) == 0
    first = capsys.readouterr().out
    assert ended(first) == [f"{name} done" for name in ("abc_psi", "abc_psi", "dense", "bug", "bug", "bug")]
    out = Path("runs/toy.jsonl")
    recorded = {record["key"]: record for record in records_in(Path("runs"))}
    assert len(recorded) == 6 and {k: kept.packed(r) for k, r in kept.read(out).items()} == {
        key: kept.packed(record) for key, record in recorded.items()
    }
    ranks = [rank for r in recorded.values() if r["name"].startswith("abc") for rank in r["final"]["ranks"].values()]
    fixed = [
        r["config"]["rank"] for r in recorded.values() if r["name"].startswith("bug") and not r["config"]["weights"]
    ]
    assert fixed == [round(sum(ranks) / 4)]
    rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+) +0:00  ", first, re.MULTILINE)
    assert rows == [("4", "0", "0", "0"), ("3", "0", "0", "0")]

    for folder in ("records", "weights"):
        before = out.read_text()
        shutil.rmtree(Path("runs") / folder)
        assert queue(FIXED_RANK, PRUNING) == 0
        assert ended(capsys.readouterr().out) == [] and out.read_text() == before


def test_a_failing_run_does_not_stop_the_queue_and_is_tried_again_by_the_next_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert queue(FAILING, "integrator=dense tau=1.5", "integrator=psi rank=2") == 1
    printed = capsys.readouterr().out
    assert ended(printed) == ["dense failed", "dense diverged", "dense done", "dense failed", "psi done"]
    assert "failed after 0:00 in epoch 1: a bug in the forward pass" in printed
    assert "failed: tau=1.5 must lie in [0, 1)" in printed
    assert "0 runs are left and 2 failed; go on with: python -m experiments.queue toy.txt" in printed
    assert queue(FAILING, "integrator=psi rank=2") == 1
    assert ended(capsys.readouterr().out) == ["dense failed"]


def test_without_time_nothing_is_started_and_all_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert queue(FIXED_RANK, more=("--minutes", "0", "--out", "here.jsonl")) == LEFT
    printed = capsys.readouterr().out
    assert "4 runs are left and 0 failed" in printed and "no run is expected to fit into 0 minutes" in printed
    assert Path("here.jsonl").read_text() == "" and not Path("runs").exists()


def test_a_signal_ends_the_queue_as_the_time_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(self: object, *_: object) -> list[Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return []

    monkeypatch.setattr(HerePool, "ended", stopped)
    assert queue("integrator=dense") == 143
    assert "1 runs were stopped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("dem", "did you mean 'demo'?"),
        ("tua=1", "unknown key 'tua'"),
        ("demo protocol=paper", "there are no protocols to choose from here"),
    ],
)
def test_a_mistake_in_a_line_is_one_sentence_and_nothing_is_run(line: str, sentence: str) -> None:
    end = queue("integrator=dense", line)
    assert isinstance(end, str) and sentence in end and len(end.splitlines()) == 1 and not Path("runs").exists()


def test_a_gpu_is_shared_by_eight_runs_and_a_cpu_has_one_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)

    class Line:
        def __init__(self, device: str) -> None:
            self.device = device

    assert command.default_jobs([Line("cpu"), Line("cuda")]) == 8  # type: ignore[list-item]
    assert command.default_jobs([Line("cpu")]) == 3  # type: ignore[list-item]
