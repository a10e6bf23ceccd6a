import pytest
import torch


@pytest.fixture(autouse=True)
def reproducible():
    """One thread (the suite runs in parallel processes), a fixed seed, and float32 again after tests in float64."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
