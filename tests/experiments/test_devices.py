"""Which device a run gets; GPUs are pretended."""

import os
import signal
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments.devices import claimed


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"gpu-{i}"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def claimer() -> tuple[int, int]:
    """A process that holds a GPU until it is killed: its id and the GPU's index."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        signal.alarm(60)  # whatever becomes of the test
        with claimed("auto") as device:
            os.write(writing, bytes([device.index]))
            signal.pause()
    (index,) = os.read(reading, 1)
    return pid, index


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.usefixtures("three_gpus")
def test_runs_are_spread_evenly_within_a_process_and_each_lets_go() -> None:
    with ExitStack() as runs:
        indices = [runs.enter_context(claimed("auto")).index for _ in range(7)]
    assert sorted(Counter(indices).values()) == [2, 2, 3] and sorted(indices[:3]) == [0, 1, 2]
    with claimed("auto") as device:
        assert device.index == indices[0]


@pytest.mark.usefixtures("three_gpus")
def test_runs_are_spread_evenly_over_processes_and_a_killed_one_lets_go() -> None:
    runs = [claimer() for _ in range(6)]
    assert Counter(index for _, index in runs) == {0: 2, 1: 2, 2: 2}
    killed, free = runs.pop(1)
    kill(killed)
    runs.append(claimer())
    assert runs[-1][1] == free
    for pid, _ in runs:
        kill(pid)


@pytest.mark.usefixtures("three_gpus")
def test_a_device_that_is_named_is_not_counted() -> None:
    with claimed("cpu") as cpu, claimed("cuda") as cuda, claimed("auto") as first:
        assert (cpu, cuda) == (torch.device("cpu"), torch.device("cuda")) and first.index == 0
    (folder,) = Path(tempfile.gettempdir()).iterdir()
    assert {path.name for path in folder.iterdir()} == {"gpu-0.0.lock"}


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with claimed("auto") as device:
        assert device == torch.device("cpu")
