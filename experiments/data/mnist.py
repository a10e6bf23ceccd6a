"""MNIST and Fashion-MNIST, from a folder or fetched once into it, split as the papers split them."""

import os
from pathlib import Path

import torch
from filelock import FileLock

from experiments.data import idx
from experiments.data.arguments import check_choice, check_integer, check_positive
from experiments.data.files import FOLDERS, SHA256, Unavailable, read_folder, store, verify
from experiments.data.sources import SOURCES
from experiments.data.splits import Split, Splits

STANDARD = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530)}  # mean, std of pixel/255
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where the package dataset-fashion-mnist puts it


def load_mnist(
    name: str = "mnist",
    root: str | Path | None = None,
    split: str = "50k",
    split_seed: int = 0,
    normalization: str = "standard",
    train_limit: int | None = None,
    device: torch.device | str = "cpu",
) -> Splits:
    """MNIST or Fashion-MNIST as uint8 tensors (N, 1, 28, 28) on `device`.

    name: "mnist" or "fashion_mnist".
    root: folder with the four IDX files, raw or .gz, in itself or in MNIST/raw (FashionMNIST/raw);
        missing files are fetched into the latter. Default: $DLRT_DATA, else ~/.cache/dlrt.
    split: "50k" = 50,000 training, 10,000 validation, 10,000 test images (DLRT, 2022), drawn by
        `split_seed`; "60k" = 60,000 training and 10,000 test images, no validation (abc-PSI, 2025).
    normalization: "standard" = (x/255 − mean)/std with the data set's usual constants; "unit" = x/255.
    train_limit: keep only the first so many of the shuffled training images.
    Raises ValueError for any other value, a file with the wrong SHA-256, or if no source has the data.
    """
    check_choice("name", name, tuple(FOLDERS))
    check_choice("split", split, ("50k", "60k"))
    check_choice("normalization", normalization, ("standard", "unit"))
    check_integer("split_seed", split_seed, 0)
    check_positive(train_limit=train_limit)

    files, source = obtain(name, Path(root).expanduser() if root else default_root())
    train, test = _pair(files, "train"), _pair(files, "t10k")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(split_seed))
    kept = len(train) * 5 // 6 if split == "50k" else len(train)  # 50,000 of the 60,000
    if train_limit is not None and train_limit > kept:
        raise ValueError(f"train_limit is {train_limit}: give at most {kept}, the training images of {split}")
    val = train.take(order[kept:]) if split == "50k" else None
    mean, std = STANDARD[name] if normalization == "standard" else (0.0, 1.0)
    return Splits(train.take(order[:kept][:train_limit]), val, test, mean, std, source).to(device)


def default_root() -> Path:
    """$DLRT_DATA, else ~/.cache/dlrt."""
    return Path(os.environ.get("DLRT_DATA") or "~/.cache/dlrt").expanduser()


def obtain(dataset: str, root: Path) -> tuple[dict[str, bytes], str]:
    """The verified raw files {name: bytes} of `dataset` and their source in words.

    Folders are read first; then, one process at a time, the sources are tried in order and what they
    give is stored under `root`. Raises ValueError if a file in a folder is damaged or nothing has it.
    """
    destination = root / FOLDERS[dataset] / "raw"
    folders = [destination, root] + ([DEBIAN] if dataset == "fashion_mnist" else [])
    reasons: list[str] = []
    for folder in folders:
        try:
            return read_folder(dataset, folder), _shown(folder)
        except Unavailable as reason:
            reasons.append(f"folder {folder}: {reason}")
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with FileLock(destination.parent / "download.lock"):
            return _fetch(dataset, destination, reasons)
    except OSError as error:
        raise ValueError(f"{destination} cannot be written ({error}): set DLRT_DATA to a folder that can") from error


def _fetch(dataset: str, destination: Path, reasons: list[str]) -> tuple[dict[str, bytes], str]:
    try:
        return read_folder(dataset, destination), _shown(destination)  # fetched while this one waited
    except Unavailable:
        pass
    for source, fetch in SOURCES[dataset].items():
        try:
            files = fetch(dataset)
            verify(dataset, files)
        except Unavailable as reason:
            reasons.append(f"{source}: {reason}")
        else:
            store(files, destination)
            return files, source
    raise ValueError(
        f"{FOLDERS[dataset]} was not found and could not be fetched ({'; '.join(reasons)}): put its files "
        f"{', '.join(SHA256[dataset])} (raw or .gz) into {destination}, or set DLRT_DATA to the folder that holds them"
    )


def _shown(folder: Path) -> str:
    return f"folder {folder}".replace(str(Path.home()), "~")  # records are published: no user names


def _pair(files: dict[str, bytes], part: str) -> Split:
    images, labels = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    return Split(idx.parse(files[images], images).unsqueeze(1), idx.parse(files[labels], labels).long())
