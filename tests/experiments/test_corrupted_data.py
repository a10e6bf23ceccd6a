"""Data and weight files that are damaged, and networks that disappear, as a user of the command line meets them.

Each ends in one sentence that names the file or address, before anything is trained, or in a run without it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import broken_server
import pytest
import safetensors.torch
import tiny_images
import tiny_mnist
import torch
import torchvision
from toy_runs import TOY, command, records_in

from experiments import build, models, validate
from experiments.data import sources

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
SMALL = ("trainer.epochs=1", "trainer.batch_size=16", "trainer.warmup_steps=0", "rank=4", "device=cpu", "threads=1")
MNIST = ("data=mnist", "model=mlp5_500", "model.kwargs.width=8", *SMALL)
FOLDER = ("data=folder", "data.kwargs.augment=false", "model=mlp5_500", "model.kwargs.width=8", *SMALL)
CIFAR = ("data=cifar10", "data.source=torchvision", "model=mlp5_500", "model.kwargs={in_features:3072,width:8}", *SMALL)
PICTURES = ("data=import", "data.target=toy_runs:pictures", "model=vit_tiny", "adapters=vit")
VIT = (*PICTURES, "model.kwargs={image_size:8,depth:1,width:16}", *SMALL)


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No source but torchvision's, on this machine; data and results below the test's folder."""
    monkeypatch.setenv("DLRT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(sources.SOURCES, "mnist", {"torchvision's download": sources.torchvision_mirror})
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [])
    for kept in (build._load, validate._check_fit):  # by config, which says nothing of these folders
        kept.cache_clear()
    yield
    build._load.cache_clear()


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that the command says, without having printed or recorded anything."""
    end = command(*arguments, f"results_dir={folder / 'runs'}")
    printed = capsys.readouterr()
    assert isinstance(end, str) and end and len(end.splitlines()) == 1, end
    assert (printed.out, printed.err) == ("", "") and not (folder / "runs" / "records").exists()
    return end


def passes(folder: Path, *arguments: str) -> None:
    """The run is trained."""
    assert command(*arguments, f"results_dir={folder / 'runs'}") == 0
    assert records_in(folder / "runs")[0]["status"] == "done"


# MNIST's files. `corrupt` changes the folder of valid ones.


def replaced(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return corrupt


def packed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        content = (folder / IMAGES).read_bytes()
        (folder / IMAGES).unlink()
        (folder / f"{IMAGES}.gz").write_bytes(change(gzip.compress(content)))

    return corrupt


def directory(folder: Path) -> None:
    (folder / IMAGES).unlink()
    (folder / IMAGES).mkdir()


MNIST_FILES = {
    "truncated": (replaced(IMAGES, lambda x: x[:-1]), f"{IMAGES} is not MNIST's {IMAGES}: its SHA-256 is"),
    "a flipped bit": (replaced(LABELS, lambda x: x[:-1] + bytes([x[-1] ^ 1])), "must be", "delete it"),
    "empty": (replaced(IMAGES, lambda _: b""), "its SHA-256 is e3b0c44298fc1c14", "delete it"),
    "text": (replaced(IMAGES, lambda _: b"<html>log in</html>"), "delete it"),
    "another magic number": (replaced(IMAGES, lambda x: b"\x00\x00\x0d" + x[3:]), "delete it"),
    "another count": (replaced(LABELS, lambda x: x[:7] + b"\x05" + x[8:]), "delete it"),
    "a truncated .gz": (packed(lambda x: x[:-20]), f"{IMAGES}.gz is damaged (Compressed file ended"),
    "a .gz with a flipped byte": (packed(lambda x: x[:40] + bytes([x[40] ^ 255]) + x[41:]), "is damaged (", "delete"),
    "a .gz that is none": (packed(lambda _: b"no gzip file"), f"{IMAGES}.gz is damaged (Not a gzipped file"),
    "a directory": (directory, f"has neither {IMAGES} nor {IMAGES}.gz", "set DLRT_DATA to the folder that holds them"),
}


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_mnist.expect(monkeypatch, tiny_mnist.raw_files())
    folder = tmp_path / "data" / "MNIST" / "raw"
    tiny_mnist.write(tiny_mnist.raw_files(), folder)
    return folder


def test_the_files_are_good_before_they_are_damaged(mnist: Path, tmp_path: Path) -> None:
    passes(tmp_path, *MNIST)


@pytest.mark.parametrize("how", MNIST_FILES)
def test_a_damaged_file_of_mnist(how: str, mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corrupt, *words = MNIST_FILES[how]
    corrupt(mnist)
    sentence = refused(tmp_path, capsys, *MNIST)
    assert sentence.startswith("data=mnist: ") and str(mnist) in sentence
    assert all(word in sentence for word in words)


def test_a_file_that_may_not_be_read(
    mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def forbidden(path: Path, *args: object, **kwargs: object) -> object:  # the tests may run as root, who reads all
        if path.name == IMAGES:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", forbidden)
    assert f"folder {mnist}: {IMAGES} cannot be read (Permission denied)" in refused(tmp_path, capsys, *MNIST)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (IMAGES, b"\x00\x00\x0d\x03" + bytes(12), "an IDX file of unsigned bytes starts with 00 00 08"),
        (IMAGES, tiny_mnist.raw_files()[IMAGES][:-1], "where its header says 47040"),
        (LABELS, bytes([0, 0, 8, 1, 0, 0, 0, 59]) + bytes(59), "do not fit labels of shape (59,)"),
        (LABELS, bytes([0, 0, 8, 1, 0, 0, 0, 60]) + bytes(59) + b"\xc8", "do not fit labels 0 … 200"),
    ],
    ids=["magic", "length", "fewer labels", "labels out of range"],
)
def test_files_whose_checksum_is_right_and_whose_content_is_not(
    name: str, content: bytes, words: str, mnist: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    files = tiny_mnist.raw_files() | {name: content}
    tiny_mnist.expect(monkeypatch, files)
    tiny_mnist.write(files, mnist)
    assert words in refused(tmp_path, capsys, *MNIST)


# Networks that disappear.


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What torchvision's mirrors serve, by name."""
    tiny_mnist.expect(monkeypatch, tiny_mnist.raw_files())
    files = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in tiny_mnist.raw_files().items()}
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    monkeypatch.setattr(sources, "SILENCE", 0.3)
    monkeypatch.setattr(sources, "LARGEST_DOWNLOAD", 1 << 18)
    return files


@pytest.mark.parametrize("way", broken_server.WAYS)
def test_a_download_that_breaks_off_leaves_nothing_behind(
    way: str, listed: dict[str, bytes], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with broken_server.serving(listed, way) as address:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [address])
        sentence = refused(tmp_path, capsys, *MNIST)
    assert f"torchvision's download: {address}" in sentence and "set DLRT_DATA" in sentence
    assert [path.name for path in (tmp_path / "data").rglob("*") if path.is_file()] in ([], ["download.lock"])


@pytest.mark.parametrize("way", ["closes_midway", "sends_another_file"])
def test_the_next_mirror_is_asked(
    way: str, listed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_server.serving(listed, way) as broken, broken_server.serving(listed, "well") as well:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [broken, well])
        passes(tmp_path, *MNIST)
    assert (tmp_path / "data" / "MNIST" / "raw" / IMAGES).read_bytes() == tiny_mnist.raw_files()[IMAGES]


# CIFAR's batches and archive.


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tiny_images.expect(monkeypatch, tiny_images.batches()), "url", "http://127.0.0.1:9/cifar.tgz")
    return tiny_images.write(tmp_path / "data", tiny_images.batches())


def archive(members: dict[str, bytes], links: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            packed.addfile(member)
    return file.getvalue()


def test_cifar_is_good_before_it_is_damaged(cifar: Path, tmp_path: Path) -> None:
    passes(tmp_path, *CIFAR)


@pytest.mark.parametrize("how", ["truncated", "code", "empty"])
def test_a_damaged_batch_of_cifar(how: str, cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"truncated": tiny_images.batches()["data_batch_1"][:-9], "empty": b""}
    (cifar / "data_batch_1").write_bytes(content.get(how, pickle.dumps(Code(tmp_path / "executed"))))
    sentence = refused(tmp_path, capsys, *CIFAR)
    assert f"{cifar / 'data_batch_1'} is damaged: its MD5 is" in sentence and "delete it" in sentence
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("how", ["outside", "links", "truncated", "wrong MD5"])
def test_a_hostile_or_damaged_archive_of_cifar_is_not_unpacked(
    how: str, cifar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, files = torchvision.datasets.CIFAR10.base_folder, tiny_images.batches()
    (cifar / "data_batch_1").unlink()
    outside = {"../evil": b"x", f"{tmp_path}/evil": b"x", f"{base}/../../evil": b"x"}
    members = {f"{base}/{name}": content for name, content in files.items()}
    links = {f"{base}/{name}": "/etc/hostname" for name in files} if how == "links" else {}
    content = archive(outside | ({} if links else members), links)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    if how == "truncated":
        content = content[:-30]
    if how == "wrong MD5":
        content += b"x"
    with broken_server.serving({"cifar.tgz": content}, "well") as address:
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{address}cifar.tgz")
        if how == "outside":  # its batches are good: they are taken by name, and the others left in it
            passes(tmp_path, *CIFAR)
        else:
            assert f"torchvision's download: {address if how != 'links' else 'its archive'}" in refused(
                tmp_path, capsys, *CIFAR
            )
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.parent.glob("evil"))


# Images in folders.


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


IMAGE_FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a truncated PNG": ("png", cut, "cannot be read as an image ("),
    "a truncated JPEG": ("jpg", cut, "cannot be read as an image ("),
    "an empty file": ("png", lambda path: path.write_bytes(b""), "cannot be read as an image (cannot identify"),
    "text": ("png", lambda path: path.write_text("<html>"), "cannot be read as an image (cannot identify"),
    "another size": ("png", lambda path: tiny_images.save(path, size=(16, 32)), "is RGB and 16 × 32: the first image"),
    "another mode": ("png", lambda path: tiny_images.save(path, mode="L"), "is grey (L) and 32 × 32: the first image"),
}  # fmt: skip


@pytest.mark.parametrize("how", IMAGE_FILES)
def test_a_damaged_image(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suffix, corrupt, words = IMAGE_FILES[how]
    root = tiny_images.folder(tmp_path / "images", suffix=suffix)
    corrupt(root / "train" / "c3" / f"2.{suffix}")
    sentence = refused(tmp_path, capsys, *FOLDER, "model.kwargs.in_features=3072", f"data.root={root}")
    assert f"{root / 'train' / 'c3'}/2.{suffix} {words}" in sentence


# Weight files.


def saved(path: Path) -> Path:
    net = models.vit_tiny(image_size=8, depth=1, width=16)
    if path.suffix == ".pth":
        torch.save(net.state_dict(), path)
    else:
        safetensors.torch.save_file(net.state_dict(), path)
    return path


WEIGHTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a truncated .pth": ("w.pth", cut, "cannot be read as a .pth file: it is damaged or incomplete"),
    "a truncated .safetensors": ("w.safetensors", cut, "cannot be read as a .safetensors file: it is damaged"),
    "an empty .pth": ("w.pth", lambda path: path.write_bytes(b""), "cannot be read as a .pth file"),
    "an empty .safetensors": ("w.safetensors", lambda path: path.write_bytes(b""), "cannot be read as a .safetensors"),
    "text": ("w.pth", lambda path: path.write_text("<html>"), "cannot be read as a .pth file"),
    "code": ("w.pth", lambda path: torch.save(Code(path.parent / "executed"), path), "they can run code"),
    "of another model": ("w.pth", lambda path: torch.save({"a": torch.ones(1)}, path), "it lacks 'class_token'"),
    "a directory": ("w.pth", lambda path: (path.unlink(), path.mkdir()), "there is no weights file"),
}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_weights_are_good_before_they_are_damaged(suffix: str, tmp_path: Path) -> None:
    passes(tmp_path, *VIT, f"model.weights={saved(tmp_path / f'w.{suffix}')}")


@pytest.mark.parametrize("how", WEIGHTS)
def test_a_damaged_weight_file(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, corrupt, words = WEIGHTS[how]
    corrupt(saved(tmp_path / name))
    sentence = refused(tmp_path, capsys, *VIT, f"model.weights={tmp_path / name}")
    assert sentence.startswith("model=vit_tiny: ") and str(tmp_path / name) in sentence and words in sentence
    assert not (tmp_path / "executed").exists()


def test_a_truncated_weight_file_of_an_earlier_run(tmp_path: Path) -> None:
    results = f"results_dir={tmp_path}"
    assert command(*TOY, "integrator=dense", results) == 0
    key = records_in(tmp_path)[0]["key"]
    cut(tmp_path / "weights" / f"{key}.safetensors")
    end = command(*TOY, "init=svd", f"weights='{key}'", results)
    assert isinstance(end, str) and len(end.splitlines()) == 1
    assert f"weights={key}: cannot read" in end and "train that run again" in end
