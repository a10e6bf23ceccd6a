"""CIFAR's pickled batches: read from a folder or fetched into it, and unpickled only when torchvision's MD5 fits."""

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
        raise Unavailable(f"{missing}\n  {DOWNLOAD}: {reason}") from reason
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
    with tarfile.open(fileobj=archive) as members:
        names = [name for name, _ in [*listed.train_list, *listed.test_list]]
        return {name: members.extractfile(f"{listed.base_folder}/{name}").read() for name in names}  # type: ignore[union-attr]


def _parts(listed: Any, files: dict[str, bytes]) -> tuple[Split, Split]:
    train, test = ([name for name, _ in batches] for batches in (listed.train_list, listed.test_list))
    return _split([files[name] for name in train]), _split([files[name] for name in test])


def _split(batches: list[bytes]) -> Split:
    loaded = [pickle.loads(batch, encoding="latin1") for batch in batches]  # the very bytes whose MD5 was verified
    images = np.concatenate([batch["data"] for batch in loaded]).reshape(-1, 3, 32, 32)
    labels = [label for batch in loaded for label in batch.get("labels", batch.get("fine_labels"))]
    return Split(torch.from_numpy(images), torch.tensor(labels))
