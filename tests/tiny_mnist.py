"""A data set of a few images in MNIST's format, and the digests that make the loader accept it."""

import hashlib
import struct
from pathlib import Path

import pytest

from experiments.data import files

TRAIN, TEST = 60, 12


def pixel(number: int, train: bool) -> int:
    """The value of every pixel of an image: it tells the images apart."""
    return number if train else 200 + number


def raw_files() -> dict[str, bytes]:
    """The four raw files; image i consists of one grey value and has label i mod 10."""
    made = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        greys = [pixel(i, part == "train") for i in range(count)]
        made[f"{part}-images-idx3-ubyte"] = struct.pack(">IIII", 0x803, count, 28, 28) + b"".join(
            bytes([grey]) * 784 for grey in greys
        )
        made[f"{part}-labels-idx1-ubyte"] = struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count))
    return made


def expect(monkeypatch: pytest.MonkeyPatch, content: dict[str, bytes], dataset: str = "mnist") -> None:
    """Let the loader take `content` for the data set."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    monkeypatch.setitem(files.SHA256, dataset, digests)


def write(content: dict[str, bytes], folder: Path) -> None:
    """Put the files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
