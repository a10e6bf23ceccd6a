"""MNIST's raw files out of a pickle of NumPy arrays that is read, never loaded: no object is built."""

import pickletools
from gzip import GzipFile
from io import BufferedReader

import numpy as np

from experiments.data import idx


def byte_strings(stream: GzipFile, shortest: int) -> list[bytes]:
    """Byte strings of at least `shortest` bytes in a gzipped pickle of protocol 2, in order.

    `pickletools.genops` decodes the opcodes and executes none of them, so a hostile pickle does nothing.
    Raises ValueError if the stream is not a pickle.
    """
    opcodes = pickletools.genops(BufferedReader(stream))
    texts = [str(argument) for opcode, argument, _ in opcodes if opcode.name == "BINSTRING"]
    # genops shows a byte string as text with one character per byte
    return [text.encode("latin-1") for text in texts if len(text) >= shortest]


def mnist_from_pickle(stream: GzipFile) -> dict[str, bytes]:
    """The four IDX files from ((train images, labels), (validation …), (test …)).

    There the images are float32 with pixel/256 and the labels int64; MNIST's training file is the
    training part followed by the validation part. Raises ValueError if there are not six arrays.
    """
    arrays = byte_strings(stream, shortest=10_000)
    if len(arrays) != 6:
        raise ValueError(f"the pickle holds {len(arrays)} arrays where 6 are expected")
    images = [np.rint(np.frombuffer(a, "<f4") * 256).astype(np.uint8).reshape(-1, 28, 28) for a in arrays[::2]]
    labels = [np.frombuffer(a, "<i8").astype(np.uint8) for a in arrays[1::2]]
    return {
        "train-images-idx3-ubyte": idx.dump(np.concatenate(images[:2])),
        "train-labels-idx1-ubyte": idx.dump(np.concatenate(labels[:2])),
        "t10k-images-idx3-ubyte": idx.dump(images[2]),
        "t10k-labels-idx1-ubyte": idx.dump(labels[2]),
    }
