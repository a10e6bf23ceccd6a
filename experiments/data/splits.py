"""Training, validation and test images that live on the device as whole tensors."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set: its parts (`val` may be None), its normalisation, and in words where it came from.

    Raises ValueError if the parts' images differ in shape or `std` is not positive.
    """

    train: Split
    val: Split | None
    test: Split
    mean: float = 0.0
    std: float = 1.0
    source: str = ""

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std is {self.std}: give a positive number")
        expected = tuple(self.train.images.shape[1:])
        for part, split in (("val", self.val), ("test", self.test)):
            if split is not None and tuple(split.images.shape[1:]) != expected:
                raise ValueError(
                    f"{part} images have shape {tuple(split.images.shape[1:])} each and train images "
                    f"{expected}: give all parts one shape"
                )

    def to(self, device: torch.device | str) -> "Splits":
        """The same data set with every tensor on `device`."""
        val = None if self.val is None else self.val.to(device)
        return Splits(self.train.to(device), val, self.test.to(device), self.mean, self.std, self.source)

    def batches(
        self, split: Split, batch_size: int, generator: torch.Generator | None = None, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of (x, y) on the split's device: x float32 (b, …), normalised; y int64 (b,).

        With a `generator` the order is one permutation drawn from it, without one the stored order.
        Raises ValueError if `batch_size` < 1 or `drop_last` would leave no batch.
        """
        if batch_size < 1 or (drop_last and batch_size > len(split)):
            raise ValueError(
                f"batch_size is {batch_size}: give at least 1, and with drop_last at most the "
                f"{len(split)} images of the part"
            )
        end = len(split) - len(split) % batch_size if drop_last else len(split)
        images: Iterable[Tensor] = split.images[:end].split(batch_size)
        labels = split.labels[:end]
        if generator is not None:
            order = torch.randperm(len(split), generator=generator, device=generator.device).to(labels.device)[:end]
            images = (split.images.index_select(0, rows) for rows in order.split(batch_size))
            labels = split.labels.index_select(0, order)  # at once: between two steps each call of torch costs 10 µs
        for x, y in zip(images, labels.split(batch_size), strict=True):
            yield self._normalized(x), y

    def _normalized(self, images: Tensor) -> Tensor:
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        # (x/255 − mean)/std in two passes instead of three; a copy, as the stored images stay unchanged
        return images.to(torch.float32, copy=True).sub_(scale * self.mean).mul_(1 / (scale * self.std))
