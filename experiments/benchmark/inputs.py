"""The batches that the steps run on: MNIST's images where the files are at hand, else random ones of that shape."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch

from experiments.data.files import FOLDERS, Unavailable, read_folder
from experiments.data.mnist import default_root, load_mnist
from experiments.data.splits import Split, Splits
from experiments.timing_tasks import Batches

BATCHES = 8
IMAGES = 20_000


def images(seed: int, device: torch.device) -> Splits:
    """The images on the device; `source` says which. Nothing is downloaded."""
    root = default_root()
    if any(_at_hand(folder) for folder in (root / FOLDERS["mnist"] / "raw", root)):
        return load_mnist(split="60k", train_limit=IMAGES).to(device)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (IMAGES,), generator=generator)
    part = Split(pixels, labels)
    return Splits(part, None, part, mean=0.5, std=0.3, source="random images").to(device)


def _at_hand(folder: Path) -> bool:
    try:
        return bool(read_folder("mnist", folder))
    except Unavailable:
        return False


def batches(data: Splits, size: int) -> list[Batches]:
    """The first batches of `size` images, one per step, to be repeated."""
    part = data.train if size <= len(data.train) else _tiled(data.train, size)
    return [[batch] for batch in islice(data.batches(part, size, drop_last=True), BATCHES)]


def _tiled(part: Split, size: int) -> Split:
    index = torch.arange(size, device=part.labels.device) % len(part)
    return Split(part.images[index], part.labels[index])
