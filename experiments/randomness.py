"""The random generators that a training may draw from besides its own: torch's, Python's and NumPy's global ones."""

import random
from typing import Any

import numpy as np
import torch


def seed(value: int) -> None:
    """Seed them all."""
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value % 2**32)


def state(device: torch.device) -> dict[str, Any]:
    """Where they are, in types that `torch.load` takes for harmless."""
    numpy: Any = np.random.get_state(legacy=False)
    keys = numpy["state"] | {"key": numpy["state"]["key"].tolist()}
    found = {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy | {"state": keys}}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def restore(saved: dict[str, Any], device: torch.device) -> None:
    """Put them where `state` found them; a GPU's generator only if the state is one of a GPU, too."""
    torch.set_rng_state(saved["torch"])
    random.setstate(saved["python"])
    np.random.set_state(saved["numpy"])
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], device)
