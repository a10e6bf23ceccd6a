"""The four raw files of MNIST and of Fashion-MNIST: their names, their SHA-256, reading and storing them."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

from experiments.storage import replacing

LARGEST_FILE = 160_000_000  # bytes; reading stops there: CIFAR-100's train has 155 million, train-images-idx3 47
FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}  # torchvision's folder and class names

SHA256 = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


class Unavailable(Exception):
    """A source cannot serve the data set; its text is the reason, and the next source is tried."""


def read_folder(dataset: str, folder: Path) -> dict[str, bytes]:
    """The verified raw files of `dataset` in `folder`, each stored as it is or with .gz.

    Raises Unavailable if one is missing or the folder holds the other data set (its file names are the
    same), ValueError if one is damaged.
    """
    files = {}
    for name in SHA256[dataset]:
        path = _find(folder, name)
        files[name] = _read(path)
        found = hashlib.sha256(files[name]).hexdigest()
        for other, digests in SHA256.items():
            if other != dataset and digests[name] == found:
                raise Unavailable(f"{name} is {FOLDERS[other]}'s")
        if found != SHA256[dataset][name]:
            raise ValueError(
                f"{path} is not {FOLDERS[dataset]}'s {name}: its SHA-256 is {found} and must be "
                f"{SHA256[dataset][name]}; delete it"
            )
    return files


def verify(dataset: str, files: Mapping[str, bytes]) -> None:
    """Raise Unavailable unless `files` are the data set's four raw files by their SHA-256."""
    for name, expected in SHA256[dataset].items():
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            raise Unavailable(f"its {name} has SHA-256 {found} and must have {expected}")


def store(files: Mapping[str, bytes], folder: Path) -> None:
    """Write each file under a temporary name in `folder` and rename it: no reader sees half a file."""
    for name, content in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if os.path.isfile(path):
            return path
    raise Unavailable(f"has neither {name} nor {name}.gz")


def _read(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(LARGEST_FILE)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it") from error
    except OSError as error:
        raise Unavailable(f"{path.name} cannot be read ({error.strerror})") from error
