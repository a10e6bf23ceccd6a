"""CIFAR's pickled batches: read from a folder or fetched into it. Only arrays are unpickled, and after an MD5 check."""

import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from experiments.data import sources
from experiments.data.files import Unavailable, store
from experiments.data.splits import Split

DOWNLOAD = "torchvision's download"
ARRAYS = {  # all that the batches call; Python 2's NumPy wrote them under older names
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class Arrays(pickle.Unpickler):
    """Builds arrays, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Called for every class and function that the pickle names. Raises ValueError for any but an array's."""
        if (module, name) not in ARRAYS:
            raise ValueError(f"a batch of CIFAR names {module}.{name}, which could run code: delete it")
        return ARRAYS[module, name]


def obtain(listed: Any, root: Path) -> tuple[Split, Split, str]:
    """Training and test images in their stored order, and their source in words; fetched into `root` if missing.

    `listed`: torchvision's class of the data set, whose lists of files and MD5 are used.
    Raises Unavailable with what was tried, ValueError if a file is damaged or `root` cannot be written.
    """
    folder = root / listed.base_folder
    try:
        return *_parts(listed, read(listed, folder)), "torchvision's files"
    except Unavailable as reason:
        missing = f"torchvision's files: {reason}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "download.lock"):
            try:
                files, source = read(listed, folder), "torchvision's files"  # fetched while this one waited
            except Unavailable:
                files, source = fetch(listed), DOWNLOAD
                store(files, folder)
    except Unavailable as reason:
        raise Unavailable(f"{missing}; {DOWNLOAD}: {reason}") from reason
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error}): set data.root to a folder that can") from error
    return *_parts(listed, files), source


def read(listed: Any, folder: Path) -> dict[str, bytes]:
    """The batches in `folder`, by name. Raises Unavailable if one is missing, ValueError if its MD5 is wrong."""
    files = {}
    for name, md5 in [*listed.train_list, *listed.test_list]:
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise Unavailable(f"{folder / name} cannot be read ({error.strerror})") from error
        found = hashlib.md5(files[name], usedforsecurity=False).hexdigest()
        if found != md5:
            raise ValueError(f"{folder / name} is damaged: its MD5 is {found} and must be {md5}; delete it")
    return files


def fetch(listed: Any) -> dict[str, bytes]:
    """The batches out of the archive that torchvision downloads, by name. Raises Unavailable."""
    sources.probe(listed.url)
    archive = io.BytesIO(sources.verified(listed.url, listed.tgz_md5))
    names = [name for name, _ in [*listed.train_list, *listed.test_list]]
    try:
        with tarfile.open(fileobj=archive) as members:
            return {name: sources.member(members, f"{listed.base_folder}/{name}") for name in names}
    except sources.ARCHIVE_ERRORS as error:
        raise Unavailable(f"its archive cannot be read ({error!r})") from error


def _parts(listed: Any, files: dict[str, bytes]) -> tuple[Split, Split]:
    train, test = ([name for name, _ in batches] for batches in (listed.train_list, listed.test_list))
    return _split([files[name] for name in train]), _split([files[name] for name in test])


def _split(batches: list[bytes]) -> Split:
    loaded = [Arrays(io.BytesIO(batch), encoding="latin1").load() for batch in batches]
    images = np.concatenate([batch["data"] for batch in loaded]).reshape(-1, 3, 32, 32)
    labels = [label for batch in loaded for label in batch.get("labels", batch.get("fine_labels"))]
    return Split(torch.from_numpy(images), torch.tensor(labels))
