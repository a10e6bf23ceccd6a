"""Checkpoints of a training: a folder for each, that appears in one piece.

    CHECKPOINTS/KEY/step-00000123/last.safetensors    the weights, with the ranks in the metadata
                                  best.safetensors    those of the epoch that would be reported now, if there is one
                                  state.pt            all else; read with weights_only=True, so that it can run no code

The last two are kept: one that cannot be read (a disk that lost power, a copy that broke off) costs no more than the
steps since the one before.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from experiments.output import first_line
from experiments.storage import creating

log = logging.getLogger(__name__)
KEPT = 2
FORMAT = 1  # of the state


@dataclass(frozen=True)
class Snapshot:
    """A training between two steps.

    weights: what is trained of the net's state_dict, factors of their present ranks; best: the same of the epoch that
    would be reported now; ranks: of each layer; state: all else, of types that `torch.load(weights_only=True)` takes.
    """

    step: int
    weights: dict[str, Tensor]
    best: dict[str, Tensor] | None
    ranks: dict[str, int]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, snapshot: Snapshot) -> bool:
        """Keep the snapshot, and of the earlier ones the last; whether that could be done: a full disk stops no run."""
        place = self.folder / f"step-{snapshot.step:08}"
        shutil.rmtree(place, ignore_errors=True)  # a damaged one, where a training comes by for the second time
        try:
            with creating(place) as folder:
                _save(snapshot.weights, folder / "last.safetensors", snapshot.ranks)
                if snapshot.best is not None:
                    _save(snapshot.best, folder / "best.safetensors", {})
                torch.save(snapshot.state | {"format": FORMAT}, folder / "state.pt")
        except (OSError, SafetensorError, RuntimeError) as error:
            log.warning("no checkpoint could be written, the run goes on without (%s)", first_line(error))
            return False
        left_by_killed = self.folder.glob(".*")
        for old in (*self._places()[KEPT:], *left_by_killed):
            shutil.rmtree(old, ignore_errors=True)
        return True

    def readable(self) -> Iterator[Snapshot]:
        """The snapshots there are, the newest first; one that cannot be read is named in a warning and left out."""
        for place in self._places():
            try:
                yield _read(place)
            except Exception as error:  # what a damaged file raises is anyone's guess
                log.warning("the checkpoint %s cannot be read and is left out (%s)", place, first_line(error))

    def clear(self) -> None:
        """Delete them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _places(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)


def _save(tensors: dict[str, Tensor], path: Path, ranks: dict[str, int]) -> None:
    """Copies on the CPU: tied tensors share no memory there, and a GPU that is full has no place for them."""
    copies = {
        name: x.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, x in tensors.items()
    }
    save_file(copies, path, metadata={"ranks": json.dumps(ranks)})
    path.chmod(0o644)  # for others who share the folder


def _read(place: Path) -> Snapshot:
    last, best = place / "last.safetensors", place / "best.safetensors"
    state = torch.load(place / "state.pt", map_location="cpu", weights_only=True)
    if best.exists() != (state["best"] is not None):
        raise ValueError("the weights of the best epoch are missing")
    with safe_open(last, "pt") as file:
        ranks = json.loads(file.metadata()["ranks"])
    step = int(place.name.partition("-")[2])
    return Snapshot(step, load_file(last), load_file(best) if best.exists() else None, ranks, state)
