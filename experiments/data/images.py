"""Folders of images: their files, their fingerprint, and decoding them to one uint8 tensor."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from experiments.data.splits import Split

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # as torchvision's
CHANNELS = {"RGB": 3, "L": 1}  # by Pillow's mode
LARGE = 100_000  # pixels from which decoding outweighs the threads' turns at the interpreter
CHUNK = 64  # images per task of a thread


@dataclass(frozen=True)
class Form:
    """What the images of a data set must be: Pillow's mode and (width, height), and the rule in words.

    With `fitted`, images of any size are scaled until they cover `size`, and cut to it at the centre.
    """

    mode: str
    size: tuple[int, int]
    rule: str
    fitted: bool = False


@dataclass(frozen=True, eq=False)
class Files:
    """Image files of a part of a data set, decoded when they are taken; labels int64 (N,)."""

    paths: Sequence[str]
    labels: Tensor
    form: Form

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Tensor) -> Split:
        """The images of the given rows, in their order. Raises ValueError that names the first unusable file."""
        return Split(decode([self.paths[i] for i in rows.tolist()], self.form), self.labels[rows])


def decode(paths: Sequence[str], form: Form) -> Tensor:
    """The images as uint8 (N, C, H, W). Raises ValueError that names the first unusable file."""
    width, height = form.size
    pixels = np.empty((len(paths), CHANNELS[form.mode], height, width), np.uint8)

    def fill(start: int) -> None:
        for i in range(start, min(start + CHUNK, len(paths))):
            pixels[i] = _pixels(paths[i], form)

    large = bool(paths) and np.prod(header(paths[0])[1]) >= LARGE
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1) if large else 1) as pool:
        for _ in pool.map(fill, range(0, len(paths), CHUNK)):
            pass  # raises what `fill` raised
    return torch.from_numpy(pixels)


def header(path: str) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) of an image file; ValueError if it is none."""
    try:
        with Image.open(path) as image:
            return image.mode, image.size
    except Exception as error:  # Pillow's readers of damaged files raise almost anything
        raise _unreadable(path, error) from error


def _pixels(path: str, form: Form) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode == form.mode and (form.fitted or image.size == form.size):
                image.load()
                fitted = ImageOps.fit(image, form.size, Image.Resampling.BILINEAR) if form.fitted else image
                return np.atleast_3d(np.asarray(fitted)).transpose(2, 0, 1)
            found = described(image.mode, image.size)
    except Exception as error:
        raise _unreadable(path, error) from error
    raise ValueError(f"{path} is {found}: {form.rule}")


def described(mode: str, size: tuple[int, int]) -> str:
    """Mode and size in words: "RGB and 32 × 32"."""
    words = {"L": "grey (L)", "P": "of a palette (P)"}.get(mode, mode)
    return f"{words} and {size[0]} × {size[1]}"


def _unreadable(path: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())
    return ValueError(f"{path} cannot be read as an image ({reason}): replace or delete it")


def image_files(folder: str | Path) -> list[tuple[str, int]]:
    """(relative path, bytes) of the image files at any depth in `folder`, sorted; without names with a leading dot.

    Raises ValueError if a folder cannot be read.
    """
    try:
        return sorted(_scan(str(folder), ""))
    except OSError as error:
        raise ValueError(f"folder {folder} cannot be read ({error}): correct its path or its permissions") from error


def _scan(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):  # among them macOS's ._NAME.jpg, which are no images
                continue
            if entry.is_dir():
                yield from _scan(entry.path, f"{prefix}{entry.name}/")
            elif entry.name.lower().endswith(EXTENSIONS):
                yield prefix + entry.name, entry.stat().st_size


def origin(folder: Path) -> str:
    """A folder of images in words, without its place: its name and fingerprint."""
    return f"folder {folder.absolute().name} ({fingerprint(folder)})"


@lru_cache
def fingerprint(root: str | Path) -> str:
    """12 hex digits of the SHA-256 over names and sizes of all image files under `root`, wherever it lies.

    A folder without images, or none, has the fingerprint of the empty list. Kept for the life of the process.
    """
    folder = os.path.expanduser(root)
    files = image_files(folder) if os.path.isdir(folder) else []
    text = "".join(f"{name}\t{size}\n" for name, size in files)
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
