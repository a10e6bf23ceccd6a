"""IDX parsing against bytes written by hand."""

import numpy as np
import pytest
import torch

from experiments.data import idx

IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 253, 254, 255])


def test_parse_reads_sizes_and_bytes():
    tensor = idx.parse(IMAGES, "images")
    assert tensor.dtype == torch.uint8
    assert tensor.tolist() == [[[1, 2, 3]], [[253, 254, 255]]]


def test_dump_writes_the_same_bytes():
    assert idx.dump(np.array([[[1, 2, 3]], [[253, 254, 255]]], dtype=np.uint8)) == IMAGES


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "starts with bytes (none)"),
        (b"\x1f\x8b\x08\x00rest", "starts with bytes 1f 8b 08 00"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 7]), "starts with 00 00 08"),  # 13: floats
        (IMAGES[:9], "ends inside its header after 9 bytes"),
        (IMAGES[:-1], "has 5 bytes of data where its header says 6"),
        (IMAGES + b"\0", "has 7 bytes of data where its header says 6"),
    ],
)
def test_damaged_files_are_refused(data, rule):
    with pytest.raises(ValueError, match="images ") as error:
        idx.parse(data, "images")
    assert rule in str(error.value)
    assert "replace the file" in str(error.value)
