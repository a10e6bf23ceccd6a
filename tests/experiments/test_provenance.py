"""Commit and dirty flag of a real git repository, and the command that repeats a run."""

import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import dlrt
from experiments import provenance as module
from experiments.provenance import provenance

CPU = torch.device("cpu")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_commit_and_dirty_flag_are_gits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    git(tmp_path, "init")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "file").write_text("one")
    git(tmp_path, "add", "conf/file")
    git(tmp_path, "commit", "-m", "one")
    clean = provenance(CPU, [], sweep=False)
    assert (clean["commit"], clean["dirty"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "results").write_text("of a run change no code")
    assert provenance(CPU, [], sweep=False)["dirty"] is False
    (tmp_path / "conf" / "file").write_text("two")
    assert provenance(CPU, [], sweep=False)["dirty"] is True


def test_outside_a_checkout_both_are_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    found = provenance(CPU, [], sweep=False)
    assert (found["commit"], found["dirty"]) == (None, None)
    monkeypatch.setenv("DLRT_COMMIT", "abc123")
    found = provenance(CPU, [], sweep=False)
    assert (found["commit"], found["dirty"]) == ("abc123", None)


def test_the_command_repeats_the_run() -> None:
    overrides = ["tau=0.1", "model.skip=[a,b]", "weights='12'"]
    found = provenance(CPU, overrides, sweep=True)
    assert shlex.split(found["command"]) == ["python", "-m", "experiments.run", "-m", *overrides]
    assert " -m tau" not in provenance(CPU, overrides, sweep=False)["command"]


def test_versions_device_and_threads_are_those_of_this_process() -> None:
    found = provenance(CPU, [], sweep=False)
    assert found["versions"]["torch"] == version("torch")
    assert found["versions"]["dlrt"] == dlrt.__version__
    assert found["device"].startswith("cpu: ") and len(found["device"]) > len("cpu: ")
    assert found["threads"] == torch.get_num_threads()
