"""Users' own images: a folder of folders, one for each class."""

from pathlib import Path

import torch
from torch import Tensor

from experiments.data.arguments import check_choice, check_flag, check_integer, check_positive
from experiments.data.classes import LAYOUT, class_files, labelled
from experiments.data.images import CHANNELS, Form, described, header, origin
from experiments.data.selection import Part, select
from experiments.data.splits import IMAGENET, UNIT, Constants, Splits


def load_folder(
    root: str | Path | None = None,
    source: str | None = None,
    image_size: int | None = None,
    stored_size: int | None = None,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    normalization: str = "imagenet",
    augment: bool = True,
    train_limit: int | None = None,
    val_limit: int | None = None,
    test_limit: int | None = None,
    device: torch.device | str = "cpu",
) -> Splits:
    """Images in root/train/CLASS, root/test/CLASS and, if it is there, root/val/CLASS as uint8 tensors (N, C, H, W).

    All are held in memory, N·C·H·W bytes; the label is the class's place in the alphabet.
    root: the folder. Its images are all RGB or all grey ("L"), and of one size unless `stored_size` is given.
    source: None or "folder", its only one.
    stored_size: the side S to which images of any size are brought when they are read: the shorter side is scaled to S
        and S × S pixels are cut at the centre.
    val_fraction: the fraction of the training images, drawn by `split_seed`, that validates where there is no root/val.
    normalization: (x/255 − mean)/std per channel with the constants of "imagenet" (pretrained models), those of the
        training images ("standard"), or "unit" = x/255.
    image_size, augment: of `Splits`, on the stored images.
    train_limit, val_limit, test_limit: keep only the first so many images of the part, shuffled by `split_seed`.
    Raises ValueError for any other value, an unusable folder or an unusable image (of those kept), which it names.
    """
    _check(source, val_fraction, split_seed, normalization, augment)
    limits = {"train": train_limit, "val": val_limit, "test": test_limit}
    check_positive(image_size=image_size, stored_size=stored_size, **{f"{k}_limit": v for k, v in limits.items()})
    if root is None:
        raise ValueError(f"the folder of the images is not given: give data.root=FOLDER with {LAYOUT}")
    folder = Path(root).expanduser()
    names = ("train", "test", "val") if (folder / "val").is_dir() else ("train", "test")
    found = class_files(folder, names)
    form = form_of(next(iter(found["train"].values()))[0], stored_size)
    files = {name: labelled(found[name], form) for name in names}
    val: Part | int = files["val"] if "val" in files else _held_out(len(files["train"]), val_fraction)
    train, validation, test = select(files["train"], val, files["test"], split_seed, limits)
    mean, std = _normalization(normalization, train.images, form)
    return Splits(train, validation, test, mean, std, origin(folder), image_size, augment).to(device)


def form_of(path: str, stored_size: int | None) -> Form:
    """What all images of a data set must be, by its first. Raises ValueError if that is neither RGB nor grey."""
    mode, size = header(path)
    if mode not in CHANNELS:
        raise ValueError(f"{path} is {described(mode, size)}: convert the images to RGB, or all of them to grey (L)")
    like = f"the first image, {path}, is {described(mode, size)}; make all images alike"
    if stored_size is None:
        return Form(mode, size, f"{like}, or give data.kwargs.stored_size=SIDE to bring them to one size")
    return Form(mode, (stored_size, stored_size), f"{like} in mode", fitted=True)


def measured(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixel/255 per channel of uint8 images (N, C, H, W)."""
    counts = torch.stack([torch.bincount(x.flatten(), minlength=256) for x in images.unbind(1)]).double()
    counts /= counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = counts @ values
    std = (counts * (values - mean[:, None]).square()).sum(1).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _held_out(count: int, fraction: float) -> int:
    if not fraction:
        return 0
    held_out = max(1, round(count * fraction))
    if held_out >= count:
        raise ValueError(f"val_fraction is {fraction}: of {count} training images none would be left; lower it")
    return held_out


def _normalization(name: str, images: Tensor, form: Form) -> tuple[Constants, Constants]:
    if name == "standard":
        return measured(images)
    if name == "imagenet" and form.mode == "L":
        raise ValueError("normalization is 'imagenet' and the images are grey: use standard or unit")
    return IMAGENET if name == "imagenet" else UNIT


def _check(source: str | None, val_fraction: float, split_seed: int, normalization: str, augment: bool) -> None:
    if source not in (None, "folder"):
        raise ValueError(f"source is {source!r}: data=folder reads folders only; leave data.source out")
    if isinstance(val_fraction, bool) or not isinstance(val_fraction, int | float) or not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction!r}: give a number of at least 0 and below 1")
    check_integer("split_seed", split_seed, 0)
    check_choice("normalization", normalization, ("imagenet", "standard", "unit"))
    check_flag("augment", augment)
