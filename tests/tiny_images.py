"""Tiny image folders, and CIFAR's batches as Python 2 pickled them, with the lists that make torchvision know them."""

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

CLASSES = [f"c{i}" for i in range(10)]
TRAIN, TEST = 4, 2  # images of each class


def grey(part: str, label: int, number: int) -> int:
    """The value of every pixel of an image: it tells the images apart."""
    return 20 * label + number + (10 if part == "test" else 0)


def save(path: Path, value: int = 0, mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> Path:
    """One image whose pixels all have `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)
    return path


def folder(
    root: Path, classes: Iterable[str] = CLASSES, parts: Iterable[str] = ("train", "test"), suffix: str = "png", **image
) -> Path:
    """ROOT/PART/CLASS/IMAGE with TRAIN images of each class (TEST in test), of value `grey`."""
    for part in parts:
        for label, name in enumerate(classes):
            for number in range(TEST if part == "test" else TRAIN):
                save(root / part / name / f"{number}.{suffix}", grey(part, label, number), **image)
    return root


def batch(images: np.ndarray, labels: list[int], key: str = "labels") -> bytes:
    """The pickle of {"data": images (N, 3072), key: labels} with the opcodes that Python 2 wrote: strings of bytes."""
    version_shape = b"K\x01M" + struct.pack("<H", len(images)) + b"M\x00\x0c\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    pixels = b"\x89T" + struct.pack("<i", images.size) + images.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array += b"(" + version_shape + dtype + pixels + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    name = b"U" + bytes([len(key)]) + key.encode()
    return b"\x80\x02}(U\x04data" + array + name + numbers + b"u."


def batches() -> dict[str, bytes]:
    """Three files of a CIFAR-10 of 20 + 10 + 10 images; image i of a part has the value i and the label i mod 10."""
    made = {}
    for name, first, last in (("data_batch_1", 0, 20), ("data_batch_2", 20, 30), ("test_batch", 100, 110)):
        values = np.arange(first, last, dtype=np.uint8)
        made[name] = batch(np.repeat(values[:, None], 3072, axis=1), [i % 10 for i in range(first, last)])
    return made


def expect(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> type:
    """Let torchvision's CIFAR10 list these files; returns that class."""
    listed = torchvision.datasets.CIFAR10
    sums = [[name, hashlib.md5(content).hexdigest()] for name, content in files.items()]
    monkeypatch.setattr(listed, "train_list", sums[:-1])
    monkeypatch.setattr(listed, "test_list", sums[-1:])
    return listed


def write(root: Path, files: dict[str, bytes]) -> Path:
    """The files where torchvision keeps them below `root`; returns their folder."""
    place = root / "cifar-10-batches-py"
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    return place
