"""The IDX format of MNIST's files: two zero bytes, a type code, the number of sizes, the sizes, the data."""

import math
import struct

import numpy as np
import torch
from torch import Tensor

UNSIGNED_BYTE = 0x08


def parse(data: bytes, name: str) -> Tensor:
    """The uint8 tensor of an IDX file's bytes; `name` is the file's name for the error.

    Raises ValueError if the header is not that of unsigned bytes or the length does not fit it.
    """
    if len(data) < 4 or data[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise ValueError(
            f"{name} starts with bytes {data[:4].hex(' ') or '(none)'}: an IDX file of unsigned bytes "
            "starts with 00 00 08; replace the file"
        )
    offset = 4 + 4 * data[3]
    if len(data) < offset:
        raise ValueError(f"{name} ends inside its header after {len(data)} bytes: replace the file")
    shape = struct.unpack(f">{data[3]}I", data[4:offset])
    if len(data) - offset != math.prod(shape):
        raise ValueError(
            f"{name} has {len(data) - offset} bytes of data where its header says {math.prod(shape)} "
            f"(sizes {shape}): replace the file"
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=offset).reshape(shape).copy())


def dump(array: np.ndarray) -> bytes:
    """The IDX file's bytes of a uint8 array; the inverse of `parse`."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()
