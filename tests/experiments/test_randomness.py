"""Random generators that go on where they were."""

import random
from pathlib import Path

import numpy as np
import torch

from experiments import randomness

CPU = torch.device("cpu")


def drawn() -> list[float]:
    """A number from each generator; Gaussian ones come in pairs, of which Python and NumPy keep the second."""
    tensors = [torch.rand(()).item(), torch.randn(()).item()]
    return [*tensors, random.random(), random.gauss(), np.random.rand(), np.random.randn()]


def test_all_generators_go_on_where_they_were_even_in_another_process(tmp_path: Path) -> None:
    randomness.seed(3)
    drawn()
    torch.save(randomness.state(CPU), tmp_path / "state.pt")
    expected = [drawn(), drawn()]
    randomness.seed(4)
    drawn()
    randomness.restore(torch.load(tmp_path / "state.pt", weights_only=True), CPU)
    assert [drawn(), drawn()] == expected


def test_a_seed_fixes_all_generators_and_another_none() -> None:
    randomness.seed(3)
    first = drawn()
    randomness.seed(3)
    assert drawn() == first
    randomness.seed(2**40)  # NumPy's take 32 bits
    assert not set(drawn()) & set(first)


def test_a_state_of_a_gpu_is_of_no_use_on_a_cpu() -> None:
    saved = randomness.state(CPU) | {"cuda": torch.zeros(16, dtype=torch.uint8)}
    expected = drawn()
    randomness.restore(saved, CPU)
    assert drawn() == expected
