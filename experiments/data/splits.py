"""Training, validation and test images that live on the device as whole tensors."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.data.augment import crop_and_flip, draw, resize

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, std of pixel/255 that pretrained models expect
UNIT = 0.0, 1.0
Constants = float | tuple[float, ...]  # for all channels, or one for each


@dataclass(frozen=True, eq=False)
class Split:
    """Images (N, …) as uint8 pixels 0 … 255 or as floats in their final scale, and int64 labels (N,).

    Raises ValueError for any other type or shape.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 and not self.images.is_floating_point():
            raise ValueError(f"images have type {self.images.dtype}: convert them to uint8 or a float type")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(
                f"labels have type {self.labels.dtype} and shape {tuple(self.labels.shape)}: "
                "give class indices as an int64 tensor of shape (N,)"
            )
        if self.images.ndim < 2 or len(self.images) != len(self.labels) or not len(self.labels):
            raise ValueError(
                f"images of shape {tuple(self.images.shape)} do not fit labels of shape "
                f"{tuple(self.labels.shape)}: give N >= 1 images of shape (N, …) and N labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Split":
        """The same data on `device`."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, rows: Tensor) -> "Split":
        """A copy of the given rows, in their order."""
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set: its parts (`val` may be None), its normalisation, and in words where it came from.

    mean, std: of pixel/255, for all channels or a tuple with one for each.
    image_size: the side to which images (N, C, H, W) are resized in batches, bilinearly; None: as they are stored.
    augment: the stored images (N, C, H, W) of training batches are cropped at random, with H//8 rows and W//8 columns
        of zeros around them, and mirrored with probability 1/2.
    Raises ValueError if the parts' images differ in shape or do not fit the other values, or `std` is not positive.
    """

    train: Split
    val: Split | None
    test: Split
    mean: Constants = 0.0
    std: Constants = 1.0
    source: str = ""
    image_size: int | None = None
    augment: bool = False

    def __post_init__(self) -> None:
        expected = tuple(self.train.images.shape[1:])
        for part, split in (("val", self.val), ("test", self.test)):
            if split is not None and tuple(split.images.shape[1:]) != expected:
                raise ValueError(
                    f"{part} images have shape {tuple(split.images.shape[1:])} each and train images "
                    f"{expected}: give all parts one shape"
                )
        self._check_normalization(expected[0])
        if (self.image_size is not None or self.augment) and len(expected) != 3:
            raise ValueError(f"images have shape {expected} each: only (C, H, W) can be resized or augmented")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size is {self.image_size}: give a positive number or None")

    def to(self, device: torch.device | str) -> "Splits":
        """The same data set with every tensor on `device`."""
        val = None if self.val is None else self.val.to(device)
        return replace(self, train=self.train.to(device), val=val, test=self.test.to(device))

    def batches(
        self,
        split: Split,
        batch_size: int,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        skip: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (x, y) on the split's device: x float32 (b, …), normalised, resized; y int64 (b,).

        With a `generator` these are training batches: the order is one permutation drawn from it by this call and, if
        the data set is augmented, so are then all crops of the epoch. Without one it is the stored order of the stored
        images. The first `skip` batches are left out; the others are what they are without it.
        Raises ValueError if `batch_size` < 1 or `drop_last` would leave no batch.
        """
        if batch_size < 1 or (drop_last and batch_size > len(split)):
            raise ValueError(
                f"batch_size is {batch_size}: give at least 1, and with drop_last at most the "
                f"{len(split)} images of the part"
            )
        end = len(split) - len(split) % batch_size if drop_last else len(split)
        images: Iterable[Tensor] = split.images[:end].split(batch_size)[skip:]
        labels = split.labels[:end]
        if generator is not None:
            order = torch.randperm(len(split), generator=generator, device=generator.device).to(labels.device)[:end]
            images = (split.images.index_select(0, rows) for rows in order.split(batch_size)[skip:])
            labels = split.labels.index_select(0, order)  # at once: between two steps each call of torch costs 10 µs
            if self.augment:
                moves = draw(split.images.shape, generator).to(labels.device)[:end]
                images = map(crop_and_flip, images, moves.split(batch_size)[skip:])
        return zip(map(self._prepare(split.images), images), labels.split(batch_size)[skip:], strict=True)

    def _prepare(self, stored: Tensor) -> Callable[[Tensor], Tensor]:
        """What brings a batch of the `stored` images to its final scale and size."""
        shift, factor = self._normalization(stored)

        def prepare(pixels: Tensor) -> Tensor:
            # (x/255 − mean)/std in two passes instead of three; a copy, as the stored images stay unchanged
            x = pixels.to(torch.float32, copy=True).sub_(shift).mul_(factor)
            return x if self.image_size is None else resize(x, self.image_size)

        return prepare

    def _normalization(self, images: Tensor) -> tuple[float | Tensor, float | Tensor]:
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        if not isinstance(self.mean, tuple) and not isinstance(self.std, tuple):
            return scale * self.mean, 1 / (scale * self.std)
        mean, std = (
            torch.tensor(x, dtype=torch.float64).view(-1, *[1] * (images.ndim - 2)) for x in (self.mean, self.std)
        )
        return (scale * mean).to(images.device, torch.float32), (1 / (scale * std)).to(images.device, torch.float32)

    def _check_normalization(self, channels: int) -> None:
        for key, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and len(value) != channels:
                raise ValueError(f"{key} is {value}: give one number, or one for each of the {channels} channels")
        if not all(x > 0 for x in (self.std if isinstance(self.std, tuple) else (self.std,))):
            raise ValueError(f"std is {self.std}: it must be positive")
