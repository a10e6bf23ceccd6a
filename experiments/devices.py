"""Which device a run uses; runs of one machine share its GPUs evenly, whatever started them."""

import getpass
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout


def device_of(name: str) -> torch.device:
    """The torch device for cpu, cuda or auto (cuda where there is one)."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def claimed(name: str) -> Iterator[torch.device]:
    """The device of a run, counted as in use within: with auto, of several GPUs one that the fewest runs use."""
    device = device_of(name)
    if name != "auto" or device.type != "cuda" or torch.cuda.device_count() == 1:
        yield device
        return
    index, lock = _claim()
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def _claim() -> tuple[int, FileLock]:
    """A GPU's index and the lock that stands for the run on it; a killed process lets go of its own."""
    folder = Path(tempfile.gettempdir()) / f"dlrt-gpus-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    names = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
    places = ((runs, index, gpu) for runs in itertools.count() for index, gpu in enumerate(names))
    for runs, index, gpu in places:
        lock = FileLock(folder / f"{gpu}.{runs}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return index, lock
    raise AssertionError("there is no end to the numbers")


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many torch threads within, None: as many as there are; the next run of the process finds those of before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
