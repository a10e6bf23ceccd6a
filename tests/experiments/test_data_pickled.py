"""The pickle walker on pickles made by hand: it finds the arrays and executes nothing."""

import gzip
import io
import pickle
import struct

import numpy as np
import pytest

from experiments.data import idx, pickled

RNG = np.random.default_rng(0)


def byte_string(data: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(data)) + data


def make_folder(path) -> bytes:
    """The opcodes of a call of os.mkdir."""
    text = str(path).encode()
    return b"cos\nmkdir\nX" + struct.pack("<I", len(text)) + text + b"\x85R"


def packed(*opcodes: bytes) -> gzip.GzipFile:
    return gzip.open(io.BytesIO(gzip.compress(b"\x80\x02(" + b"".join(opcodes) + b"t.", compresslevel=0)))


def test_a_hostile_pickle_executes_nothing(tmp_path):
    pickle.loads(b"\x80\x02" + make_folder(tmp_path / "loaded") + b".")
    assert (tmp_path / "loaded").is_dir()  # the opcodes would work if they were executed

    found = pickled.byte_strings(packed(make_folder(tmp_path / "walked"), byte_string(b"data")), shortest=1)
    assert found == [b"data"]
    assert not (tmp_path / "walked").exists()


def test_only_long_byte_strings_are_returned_in_order():
    every_byte = bytes(range(256))
    stream = packed(byte_string(every_byte), byte_string(b"short"), byte_string(every_byte[::-1]))
    assert pickled.byte_strings(stream, shortest=256) == [every_byte, every_byte[::-1]]


@pytest.mark.parametrize(
    ("opcodes", "rule"), [(b"\xff", "unknown"), (byte_string(b"data")[:-2], "remain"), (b"", "exhausted")]
)
def test_what_is_no_pickle_is_a_value_error(opcodes, rule):
    with gzip.open(io.BytesIO(gzip.compress(opcodes))) as stream, pytest.raises(ValueError, match=rule):
        pickled.byte_strings(stream, shortest=1)


def test_six_arrays_become_the_four_files():
    pixels = [RNG.integers(0, 256, (n, 784), dtype=np.uint8) for n in (1300, 1260, 1250)]
    labels = [RNG.integers(0, 10, len(p)) for p in pixels]
    opcodes = []
    for p, y in zip(pixels, labels, strict=True):
        opcodes += [byte_string((p / np.float32(256)).astype("<f4").tobytes())]
        opcodes += [byte_string(y.astype("<i8").tobytes())]
    rebuilt = pickled.mnist_from_pickle(packed(*opcodes))

    train = idx.parse(rebuilt["train-images-idx3-ubyte"], "train").numpy()
    assert train.shape == (2560, 28, 28)
    assert (train.reshape(-1, 784) == np.concatenate(pixels[:2])).all()
    assert (idx.parse(rebuilt["t10k-images-idx3-ubyte"], "test").numpy().reshape(-1, 784) == pixels[2]).all()
    assert idx.parse(rebuilt["train-labels-idx1-ubyte"], "y").tolist() == np.concatenate(labels[:2]).tolist()
    assert idx.parse(rebuilt["t10k-labels-idx1-ubyte"], "y").tolist() == labels[2].tolist()


def test_another_number_of_arrays_is_refused():
    with pytest.raises(ValueError, match="holds 1 arrays where 6"):
        pickled.mnist_from_pickle(packed(byte_string(bytes(10_000))))
