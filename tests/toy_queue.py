"""Queues of toy runs, their records without training, and a network that says when its training begins."""

import os
from pathlib import Path
from typing import Any

import toy_runs
from torch import Tensor

from experiments.compose import hydra_compose_cell, remembering
from experiments.queue.lines import Line, line_of
from experiments.records import Store
from experiments.references import Cell

TOY = tuple(override for override in toy_runs.TOY if not override.startswith("rank="))
FIXED_RANK = (  # a mean rank of two runs, a run that waits for nothing, and one of that rank
    "'blocks=[{integrator:abc_psi,rank:4,seed:[0,1]},{integrator:dense,seed:0},"
    "{integrator:bug,rank:{from:{integrator:abc_psi},take:mean_rank},seed:0}]'"
)
PRUNING = (  # two runs from the weights of a dense one
    "'blocks=[{integrator:dense,seed:0},"
    "{integrator:bug,rank:[2,3],init:svd,seed:0,weights:{from:{integrator:dense,seed:same},take:weights}}]'"
)


class Net(toy_runs.Net):
    """Its training creates `file`; it ends its process if it is to `die`."""

    def __init__(self, file: str, die: bool = False) -> None:
        super().__init__()
        self.file, self.die = Path(file), die

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.file.touch()
            if self.die:
                os._exit(3)
        return super().forward(x)


def lines_of(*texts: str, results_dir: Path) -> list[Line]:
    """The lines of a queue file."""
    with toy_runs.composing():
        compose = remembering(hydra_compose_cell)
        overrides = [*TOY, f"results_dir={results_dir}"]
        lines = [line_of(text, overrides, compose) for text in texts]
        for line in lines:
            for drafts in line.blocks:
                for draft in drafts:
                    compose([value for value in draft.values() if isinstance(value, str)])
    return lines


def record_of(cell: Cell, status: str = "done", rank: int = 3, seconds: float = 10.0, device: str = "cpu: Toy") -> Any:
    """A record of the run `cell`."""
    return {
        "key": cell.key,
        "name": cell.name,
        "status": status,
        "config": cell.config,
        "history": [],
        "final": {"ranks": {"0": rank, "2": rank + 1}},
        "error": None,
        "timing": {"seconds": seconds},
        "provenance": {"device": device},
    }


def save_weights(store: Store, cell: Cell) -> None:
    """An empty file of weights of the run `cell`."""
    store.save_weights(cell.key, {}, {})
