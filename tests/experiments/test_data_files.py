"""Reading a folder: raw and .gz files, checksums, damage; storing atomically."""

import gzip
import hashlib
import os

import pytest
import tiny_mnist

from experiments.data import files
from experiments.data.files import Unavailable

NAME = "t10k-labels-idx1-ubyte"


@pytest.fixture
def content(monkeypatch):
    made = tiny_mnist.raw_files()
    tiny_mnist.expect(monkeypatch, made)
    return made


def test_raw_and_gz_files_are_read(content, tmp_path):
    tiny_mnist.write(content, tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / f"{NAME}.gz").write_bytes(gzip.compress(content[NAME]))
    assert files.read_folder("mnist", tmp_path) == content


def test_a_missing_file_makes_the_folder_unavailable(content, tmp_path):
    tiny_mnist.write(content, tmp_path)
    (tmp_path / NAME).unlink()
    with pytest.raises(Unavailable, match=f"has neither {NAME} nor {NAME}.gz"):
        files.read_folder("mnist", tmp_path)
    with pytest.raises(Unavailable):
        files.read_folder("mnist", tmp_path / "no such folder")


def test_a_wrong_checksum_is_refused_with_both_digests(content, tmp_path):
    tiny_mnist.write(content, tmp_path)
    changed = content[NAME][:-1] + b"\x05"
    (tmp_path / NAME).write_bytes(changed)
    with pytest.raises(ValueError, match="delete it") as error:
        files.read_folder("mnist", tmp_path)
    text = str(error.value)
    assert str(tmp_path / NAME) in text
    assert hashlib.sha256(changed).hexdigest() in text
    assert hashlib.sha256(content[NAME]).hexdigest() in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],  # cut off
        lambda packed: b"no gzip at all",
        lambda packed: packed[:20] + bytes([packed[20] ^ 255]) + packed[21:],
        lambda packed: packed[:-5] + bytes([packed[-5] ^ 1]) + packed[-4:],  # in the checksum of gzip itself
    ],
)
def test_a_damaged_gz_is_refused(content, tmp_path, damage):
    tiny_mnist.write(content, tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / f"{NAME}.gz").write_bytes(damage(gzip.compress(content[NAME])))
    with pytest.raises(ValueError, match=rf"{NAME}.gz is damaged \(.+\): delete it"):
        files.read_folder("mnist", tmp_path)


def test_the_other_data_set_under_the_same_names_is_not_damage(content, tmp_path, monkeypatch):
    other = {name: data + b"\0" for name, data in content.items()}
    tiny_mnist.expect(monkeypatch, other, "fashion_mnist")
    tiny_mnist.write(other, tmp_path)
    with pytest.raises(Unavailable, match="is FashionMNIST's"):
        files.read_folder("mnist", tmp_path)
    assert files.read_folder("fashion_mnist", tmp_path) == other


def test_verify_names_the_wrong_file(content):
    files.verify("mnist", content)
    with pytest.raises(Unavailable, match=f"its {NAME} has SHA-256"):
        files.verify("mnist", {**content, NAME: b"wrong"})


def test_store_leaves_nothing_behind_when_it_fails(content, tmp_path, monkeypatch):
    def no_rename(old, new):
        assert os.path.dirname(old) == os.path.dirname(new)  # a rename across file systems is not atomic
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", no_rename)
    with pytest.raises(OSError, match="disk full"):
        files.store(content, tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_store_writes_exactly_the_files(content, tmp_path):
    files.store(content, tmp_path / "a" / "raw")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a" / "raw").iterdir()} == content
