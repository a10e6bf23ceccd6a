"""The precision that the flows and factorisations run in, whatever the loss is computed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MATMULS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within: float32 products in float32, no autocast. TF32 and bfloat16 leave bases orthonormal to 1e-3 only."""
    before = [matmul.fp32_precision for matmul in _MATMULS]
    for matmul in _MATMULS:
        matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for matmul, precision in zip(_MATMULS, before, strict=True):
            matmul.fp32_precision = precision
