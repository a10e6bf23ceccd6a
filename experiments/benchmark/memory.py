"""Memory of a piece of work: the most bytes that are alive at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(tensors: Iterable[Tensor], work: Callable[[], object], device: torch.device) -> int:
    """Peak of the live bytes during `work()`: of `tensors`, and of all tensors created within, wherever they are kept.

    On the CPU the count is exact, after every operation, but for buffers within single operations. On a GPU it is the
    allocator's, these buffers and its rounding included; there do the work once before, which allocates what stays
    (cuBLAS workspaces), and set old gradients to None: what is freed that is not of `tensors` lowers the peak.

    Args:
        tensors: what is there before: usually the parameters and the optimiser's state.
    """
    live = LiveBytes(tensors)
    if device.type == "cuda":
        return live.peak + _cuda_growth(work, device)
    with live:
        work()
    return live.peak


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' storages; one that several of them share counts once."""
    return LiveBytes(tensors).peak


class LiveBytes(TorchDispatchMode):
    """Follows the storages of `tensors` and of the results of all operations within the context until they are freed.

    A storage is known by a weak reference to the C++ object: what only autograd holds is alive until it lets go.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.sizes: dict[StorageWeakRef, int] = {}
        self.peak = 0
        self._count(_storages(list(tensors)))

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = set(_storages((args, kwargs)))
        out = func(*args, **(kwargs or {}))
        self._count({ref: size for ref, size in _storages(out).items() if ref not in given})
        return out

    def _count(self, new: dict[StorageWeakRef, int]) -> None:
        self.sizes = {ref: size for ref, size in (self.sizes | new).items() if not ref.expired()}
        self.peak = max(self.peak, sum(self.sizes.values()))


def _storages(tree: Any) -> dict[StorageWeakRef, int]:
    """The storages of the tensors within nested containers, and their bytes; views of one storage share a key."""
    storages = (x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor))
    return {StorageWeakRef(storage): storage.nbytes() for storage in storages}


def _cuda_growth(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
