"""The batches that the steps run on: MNIST's images where the files are at hand, else random ones of that shape."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch

from experiments.benchmark.cases import Case
from experiments.data.files import FOLDERS, Unavailable, read_folder
from experiments.data.mnist import default_root, load_mnist
from experiments.data.splits import Split, Splits
from experiments.timing_tasks import Batches

BATCHES = 8
IMAGES = 20_000


def images(case: Case, seed: int, device: torch.device) -> Splits:
    """The images for the case's net on the device; `source` says which. Nothing is downloaded.

    Those of vision transformers are random: (3, image_size, image_size).
    """
    if case.image_size is not None:
        return _random(BATCHES * case.batch, (3, case.image_size, case.image_size), seed).to(device)
    root = default_root()
    if any(_at_hand(folder) for folder in (root / FOLDERS["mnist"] / "raw", root)):
        return load_mnist(split="60k", train_limit=IMAGES).to(device)
    return _random(IMAGES, (1, 28, 28), seed).to(device)


def _random(count: int, shape: tuple[int, int, int], seed: int) -> Splits:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    part = Split(pixels, torch.randint(0, 10, (count,), generator=generator))
    return Splits(part, None, part, mean=0.5, std=0.3, source="random images")


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
