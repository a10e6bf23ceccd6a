"""Memory of a piece of work: the most bytes that are alive at once, and which of those there before are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_expired = torch.UntypedStorage._expired  # StorageWeakRef.expired is four times as slow


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


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors within nested containers."""
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


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
        self.total = self.peak = 0
        self._count(_storages(list(tensors)))

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = set(_storages((args, kwargs)))
        out = func(*args, **(kwargs or {}))
        self._count({ref: size for ref, size in _storages(out).items() if ref not in given})
        return out

    def _count(self, new: dict[StorageWeakRef, int]) -> None:
        new = {ref: size for ref, size in new.items() if ref not in self.sizes}
        self.sizes |= new
        self.total += sum(new.values())
        if self.total > self.peak:  # with what has been freed since it was last looked for
            self.sizes = {ref: size for ref, size in self.sizes.items() if not _expired(ref.cdata)}
            self.total = sum(self.sizes.values())
            self.peak = max(self.peak, self.total)


def bytes_read(tensors: Iterable[Tensor], work: Callable[[], object]) -> int:
    """Bytes of those storages of `tensors` that an operation within `work()` computes something from."""
    before, mode = _storages(list(tensors)), _Reads()
    with mode:
        work()
    return sum(size for ref, size in before.items() if ref in mode.read)


class _Reads(TorchDispatchMode):
    """Notes the storages that operations read. A view reads nothing, nor does an operation what it overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[StorageWeakRef] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.read |= _storages((args, kwargs)).keys() - _storages(out).keys()
        return out


def _storages(tree: Any) -> dict[StorageWeakRef, int]:
    """The storages of the tensors within nested containers, and their bytes; views of one storage share a key."""
    storages = (x.untyped_storage() for x in tensors_in(tree))
    return {StorageWeakRef(storage): storage.nbytes() for storage in storages}


def _cuda_growth(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
