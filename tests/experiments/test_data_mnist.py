"""load_mnist on a tiny data set: order of the sources, the lock, the papers' splits, bad values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_mnist
import torch

from experiments.data import load_mnist, mnist
from experiments.data.files import Unavailable
from experiments.data.sources import SOURCES

CONTENT = tiny_mnist.raw_files()
TESTS = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join([str(TESTS.parent), str(TESTS)])


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """The tiny digests; no source but those that a test adds; an empty default folder."""
    tiny_mnist.expect(monkeypatch, CONTENT)
    monkeypatch.setitem(SOURCES, "mnist", {})
    monkeypatch.setenv("DLRT_DATA", str(tmp_path / "default"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def root(tmp_path):
    """A folder with the raw files in torchvision's layout."""
    tiny_mnist.write(CONTENT, tmp_path / "MNIST" / "raw")
    return tmp_path


def greys(split):
    """Each image's grey value, which is its number in the file."""
    assert (split.images == split.images[:, :, :1, :1]).all()
    return split.images[:, 0, 0, 0].tolist()


def test_50k_is_a_seeded_disjoint_split(root):
    data = load_mnist(root=root)
    train, val = greys(data.train), greys(data.val)
    assert (len(train), len(val), len(data.test)) == (50, 10, 12)
    assert sorted(train + val) == list(range(60))
    assert data.train.labels.tolist() == [grey % 10 for grey in train]
    assert data.val.labels.tolist() == [grey % 10 for grey in val]
    assert greys(data.test) == [tiny_mnist.pixel(i, train=False) for i in range(12)]
    assert data.test.labels.tolist() == [i % 10 for i in range(12)]
    assert data.train.images.shape == (50, 1, 28, 28)
    assert data.train.images.dtype == torch.uint8

    assert greys(load_mnist(root=root).val) == val
    assert sorted(greys(load_mnist(root=root, split_seed=1).val)) != sorted(val)


def test_60k_keeps_all_training_images(root):
    data = load_mnist(root=root, split="60k")
    assert data.val is None
    assert sorted(greys(data.train)) == list(range(60))
    assert len(data.test) == 12


def test_train_limit_takes_the_first_of_the_shuffled_images(root):
    full, few = load_mnist(root=root), load_mnist(root=root, train_limit=7)
    assert greys(few.train) == greys(full.train)[:7]
    assert greys(few.val) == greys(full.val)
    with pytest.raises(ValueError, match="train_limit is 51: give at most 50"):
        load_mnist(root=root, train_limit=51)


def test_normalisation_constants(root, monkeypatch):
    assert (load_mnist(root=root).mean, load_mnist(root=root).std) == (0.1307, 0.3081)
    unit = load_mnist(root=root, normalization="unit")
    x, _ = next(unit.batches(unit.test, 1))
    torch.testing.assert_close(x, torch.full((1, 1, 28, 28), 200 / 255))
    tiny_mnist.write(CONTENT, root / "FashionMNIST" / "raw")
    monkeypatch.setitem(mnist.SHA256, "mnist", dict.fromkeys(CONTENT, "another digest"))
    tiny_mnist.expect(monkeypatch, CONTENT, "fashion_mnist")
    fashion = load_mnist("fashion_mnist", root=root)
    assert (fashion.mean, fashion.std) == (0.2860, 0.3530)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"name": "mnst"}, "name is 'mnst': did you mean 'mnist'. use mnist or fashion_mnist"),
        ({"name": ["mnist"]}, "name is"),
        ({"split": "55k"}, "split is '55k': .*use 50k or 60k"),
        ({"normalization": None}, "normalization is None: use standard or unit"),
        ({"split_seed": -1}, "split_seed is -1: give an integer of at least 0"),
        ({"split_seed": 0.5}, "split_seed is 0.5"),
        ({"train_limit": 0}, "train_limit is 0: give an integer of at least 1"),
        ({"train_limit": True}, "train_limit is True"),
    ],
)
def test_bad_values_are_refused(root, values, text):
    with pytest.raises(ValueError, match=text):
        load_mnist(root=root, **values)


def test_the_default_folder_is_dlrt_data_and_the_files_may_lie_in_it_directly(tmp_path):
    tiny_mnist.write(CONTENT, tmp_path / "default")
    assert load_mnist().source == f"folder {tmp_path / 'default'}"


def test_without_dlrt_data_the_default_folder_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DLRT_DATA")
    tiny_mnist.write(CONTENT, tmp_path / "home" / ".cache" / "dlrt" / "MNIST" / "raw")
    assert load_mnist().source == "folder ~/.cache/dlrt/MNIST/raw"


def refusing(reason):
    def source(dataset):
        raise Unavailable(reason)

    return source


def forbidden(dataset):
    raise AssertionError("this source must not be asked")


def test_a_folder_comes_before_every_source(root, monkeypatch):
    monkeypatch.setitem(SOURCES, "mnist", {"first": forbidden})
    assert load_mnist(root=root).source == f"folder {root / 'MNIST' / 'raw'}"


def test_sources_are_tried_in_order_and_the_result_is_kept(tmp_path, monkeypatch):
    wrong = {**CONTENT, "t10k-labels-idx1-ubyte": b"wrong"}
    tried = {"first": refusing("no network"), "second": lambda d: wrong, "third": lambda d: CONTENT}
    monkeypatch.setitem(SOURCES, "mnist", {**tried, "fourth": forbidden})
    assert load_mnist(root=tmp_path).source == "third"
    monkeypatch.setitem(SOURCES, "mnist", {"first": forbidden})
    assert load_mnist(root=tmp_path).source == f"folder {tmp_path / 'MNIST' / 'raw'}"


def test_a_damaged_file_is_refused_and_not_replaced(root, monkeypatch):
    damaged = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    damaged.write_bytes(b"damaged")
    monkeypatch.setitem(SOURCES, "mnist", {"first": forbidden})
    with pytest.raises(ValueError, match=f"{damaged} is not MNIST's .*delete it"):
        load_mnist(root=root)
    assert damaged.read_bytes() == b"damaged"


def test_when_everything_fails_every_reason_and_the_fix_are_named(tmp_path, monkeypatch):
    tried = {"torchvision's download": refusing("no network"), "a copy": lambda d: dict.fromkeys(CONTENT, b"x")}
    monkeypatch.setitem(SOURCES, "mnist", tried)
    with pytest.raises(ValueError, match="MNIST was not found") as error:
        load_mnist(root=tmp_path / "new")
    text = str(error.value)
    assert f"folder {tmp_path / 'new' / 'MNIST' / 'raw'}: has neither train-images-idx3-ubyte" in text
    assert "torchvision's download: no network" in text
    assert "a copy: its train-images-idx3-ubyte has SHA-256" in text
    assert f"into {tmp_path / 'new' / 'MNIST' / 'raw'}, or set DLRT_DATA" in text
    assert not list((tmp_path / "new").rglob("*ubyte*"))


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot be written .*set DLRT_DATA"):
        load_mnist(root=tmp_path / "file")


LOADER = """
import sys, time
import pytest
from experiments.data import load_mnist
from experiments.data.sources import SOURCES
import tiny_mnist

def slow(dataset):
    print("fetched", flush=True)
    time.sleep(0.7)
    return tiny_mnist.raw_files()

with pytest.MonkeyPatch.context() as patch:
    tiny_mnist.expect(patch, tiny_mnist.raw_files())
    patch.setitem(SOURCES, "mnist", {"slow source": slow})
    print("ready", flush=True)
    sys.stdin.readline()
    print(load_mnist(root=sys.argv[1]).source)
"""


def test_two_processes_fetch_once(tmp_path):
    command = [sys.executable, "-c", LOADER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": PATHS}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    loaders = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    assert [loader.stdout.readline() for loader in loaders] == ["ready\n", "ready\n"]
    for loader in loaders:
        loader.stdin.write("go\n")
        loader.stdin.flush()
    outputs = sorted(loader.communicate(timeout=60)[0].splitlines() for loader in loaders)
    assert outputs == [["fetched", "slow source"], [f"folder {tmp_path / 'MNIST' / 'raw'}"]]
