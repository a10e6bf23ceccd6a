"""CIFAR-10 and CIFAR-100, from torchvision's files or from a folder of images."""

from pathlib import Path

import torch

from experiments.data import cifar_batches
from experiments.data.arguments import check_choice, check_flag, check_integer, check_positive
from experiments.data.classes import LAYOUT, class_files, is_image_folder, labelled
from experiments.data.files import Unavailable
from experiments.data.images import Form, origin
from experiments.data.mnist import default_root
from experiments.data.selection import Part, select
from experiments.data.splits import IMAGENET, UNIT, Constants, Splits

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
CLASSES = {"cifar10": 10, "cifar100": 100}
STANDARD = {  # mean, std of pixel/255 of the training images
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
IMAGES = (50_000, 10_000)  # for training, for testing


def load_cifar(
    name: str = "cifar10",
    root: str | Path | None = None,
    source: str | None = None,
    split: str = "45k",
    split_seed: int = 0,
    normalization: str = "imagenet",
    image_size: int | None = None,
    augment: bool = True,
    train_limit: int | None = None,
    val_limit: int | None = None,
    test_limit: int | None = None,
    device: torch.device | str = "cpu",
) -> Splits:
    """CIFAR-10 or CIFAR-100 as uint8 tensors (N, 3, 32, 32) on `device`, in batches of `Splits`.

    name: "cifar10" or "cifar100".
    root: folder with train/CLASS/IMAGE and test/CLASS/IMAGE, all RGB and 32 × 32 (JPEG files are close to the original
        images, not equal: `Splits.source` says so), or with torchvision's files, to which missing ones are downloaded.
        Default: $DLRT_DATA, else ~/.cache/dlrt, for torchvision's files.
    source: "folder" or "torchvision"; None: the image folder if `root` is one, else torchvision.
    split: "45k" = 45,000 training, 5,000 validation, 10,000 test images (a tenth of the training images is held out,
        drawn by `split_seed`); "50k" = all training images, no validation.
    normalization: (x/255 − mean)/std per channel with the constants of "imagenet" (pretrained models), of the data set
        ("standard"), or "unit" = x/255.
    image_size, augment: of `Splits`.
    train_limit, val_limit, test_limit: keep only the first so many images of the part, shuffled by `split_seed`.
    Raises ValueError for any other value, an unusable image, a file with the wrong MD5, or if no source has the data.
    """
    check_choice("name", name, tuple(TITLES))
    if source is not None:
        check_choice("source", source, ("torchvision", "folder"))
    check_choice("split", split, ("45k", "50k"))
    check_choice("normalization", normalization, ("imagenet", "standard", "unit"))
    check_integer("split_seed", split_seed, 0)
    check_positive(image_size=image_size, train_limit=train_limit, val_limit=val_limit, test_limit=test_limit)
    check_flag("augment", augment)

    train, test, found = _obtain(name, Path(root).expanduser() if root else None, source)
    limits = {"train": train_limit, "val": val_limit, "test": test_limit}
    parts = select(train, len(train) // 10 if split == "45k" else 0, test, split_seed, limits)
    constants: dict[str, tuple[Constants, Constants]] = {"imagenet": IMAGENET, "standard": STANDARD[name], "unit": UNIT}
    return Splits(*parts, *constants[normalization], found, image_size, augment).to(device)


def _obtain(name: str, root: Path | None, source: str | None) -> tuple[Part, Part, str]:
    if source == "folder" or (source is None and root is not None and is_image_folder(root)):
        return _from_folder(name, root)
    if root is not None and not root.is_dir():
        raise ValueError(f"root {root} is no folder: correct data.root, or make the folder to download into it")
    from torchvision import datasets  # slow to import, and not needed for a folder

    folder = root or default_root()
    listed = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        train, test, found = cifar_batches.obtain(listed, folder)
    except Unavailable as tried:
        raise ValueError(
            f"{TITLES[name]} was not found and could not be fetched (image folder: {_no_folder(root, source)}; "
            f"{tried}): give data.root=FOLDER with {LAYOUT}, or put torchvision's folder {listed.base_folder} "
            f"into {folder}"
        ) from tried
    return train, test, f"{TITLES[name]}, {found}"


def _no_folder(root: Path | None, source: str | None) -> str:
    if source == "torchvision":
        return "excluded by data.source=torchvision"
    return "data.root is not given" if root is None else f"{root} has not {LAYOUT}"


def _from_folder(name: str, root: Path | None) -> tuple[Part, Part, str]:
    if root is None:
        raise ValueError(f"source is 'folder' without a folder: give data.root=FOLDER with {LAYOUT}")
    title = TITLES[name]
    found = class_files(root, ("train", "test"))
    if len(found["train"]) != CLASSES[name]:
        raise ValueError(
            f"{root / 'train'} has {len(found['train'])} classes and {title} has {CLASSES[name]}: "
            "correct data.root, or use data=folder for other images"
        )
    form = Form("RGB", (32, 32), f"images of {title} are RGB and 32 × 32, use data=folder for others")
    # CIFAR numbers its classes in the order of the alphabet, as folders do
    train, test = (labelled(found[part], form) for part in ("train", "test"))
    count = "" if (len(train), len(test)) == IMAGES else f", {len(train)} + {len(test)} of its images"
    jpeg = " (JPEG)" if any(path.lower().endswith((".jpg", ".jpeg")) for path in train.paths) else ""
    return train, test, f"{title}{jpeg}{count}, {origin(root)}"
