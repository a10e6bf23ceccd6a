"""What a queue's worker process does with a job."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import torch
from omegaconf import DictConfig

from experiments import cell
from experiments.explain import explain, is_mistake
from experiments.place import Place
from experiments.records import identity
from experiments.validate import validate


def run(cfg: DictConfig, overrides: Sequence[str]) -> str:
    """Run and record `cfg`, which the overrides describe; returns why that could not be done, or an empty text."""
    torch.set_num_threads(1)  # runs may set another number
    try:
        validate(cfg)
        cell.recorded(cfg, identity(cfg), Place(overrides, sweep=True, parallel=True))
    except Exception as error:
        return explain(error) if is_mistake(error) else "".join(traceback.format_exception_only(error)).strip()
    return ""
