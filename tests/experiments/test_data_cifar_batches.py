"""CIFAR's batches in the format of Python 2: read, fetched, refused when their MD5 is wrong."""

import hashlib
import io
import pickle
import struct
import tarfile

import pytest
import tiny_images

from experiments.data import cifar_batches, sources
from experiments.data.files import Unavailable

CONTENT = tiny_images.batches()


@pytest.fixture
def listed(monkeypatch):
    monkeypatch.setattr(sources, "probe", lambda url: pytest.fail("the network is asked"))
    return tiny_images.expect(monkeypatch, CONTENT)


@pytest.fixture
def served(listed, monkeypatch):
    """The archive that the download gives; returns the URLs asked for."""
    asked, archive = [], io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as members:
        for name, content in CONTENT.items():
            member = tarfile.TarInfo(f"{listed.base_folder}/{name}")
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(listed, "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest())
    monkeypatch.setattr(sources, "probe", asked.append)
    monkeypatch.setattr(sources, "download", lambda url: asked.append(url) or archive.getvalue())
    return asked


def check(train, test):
    assert train.images.shape == (30, 3, 32, 32)
    assert (train.images == train.images[:, :1, :1, :1]).all()
    assert train.images[:, 0, 0, 0].tolist() == list(range(30))
    assert train.labels.tolist() == [i % 10 for i in range(30)]
    assert test.images[:, 0, 0, 0].tolist() == list(range(100, 110))
    assert test.labels.tolist() == list(range(10))


def test_files_in_the_folder_are_read_in_order(listed, tmp_path):
    tiny_images.write(tmp_path, CONTENT)
    train, test, source = cifar_batches.obtain(listed, tmp_path)
    check(train, test)
    assert source == "torchvision's files"


def test_torchvision_reads_the_same(listed, tmp_path, monkeypatch):
    tiny_images.write(tmp_path, CONTENT)
    monkeypatch.setattr(listed, "_load_meta", lambda self: None)
    theirs = listed(tmp_path, train=True)
    ours, _, _ = cifar_batches.obtain(listed, tmp_path)
    assert (ours.images.permute(0, 2, 3, 1).numpy() == theirs.data).all()
    assert ours.labels.tolist() == theirs.targets


def test_channels_are_planes_and_fine_labels_are_taken():
    images = tiny_images.np.arange(3072, dtype=tiny_images.np.uint8).reshape(1, 3072)
    split = cifar_batches._split([tiny_images.batch(images, [99], "fine_labels")])
    assert split.labels.tolist() == [99]
    assert split.images.flatten().tolist() == images.flatten().tolist()
    assert split.images[0, 1, 0, 1].item() == 1025 % 256


def test_a_file_with_a_wrong_md5_is_refused_before_it_is_unpickled(listed, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    hostile = pickle.dumps(Hostile())
    pickle.loads(hostile).close()
    (tmp_path / "executed").unlink()  # it works when it is loaded
    folder = tiny_images.write(tmp_path, CONTENT | {"data_batch_2": hostile})
    sentence = f"data_batch_2 is damaged: its MD5 is {hashlib.md5(hostile).hexdigest()} and must be .*; delete it"
    with pytest.raises(ValueError, match=sentence):
        cifar_batches.obtain(listed, tmp_path)
    assert not (tmp_path / "executed").exists()
    assert (folder / "data_batch_2").read_bytes() == hostile


def test_a_batch_whose_md5_is_right_runs_no_code_all_the_same(tmp_path, monkeypatch):
    place = str(tmp_path / "executed").encode()
    hostile = b"\x80\x02cio\nopen\nX" + struct.pack("<i", len(place)) + place + b"X\x01\x00\x00\x00w\x86R."
    listed = tiny_images.expect(monkeypatch, CONTENT | {"data_batch_2": hostile})
    tiny_images.write(tmp_path, CONTENT | {"data_batch_2": hostile})
    with pytest.raises(ValueError, match=r"a batch of CIFAR names .*open, which could run code"):
        cifar_batches.obtain(listed, tmp_path)
    assert not (tmp_path / "executed").exists()


def test_missing_files_are_fetched_once_and_kept(listed, served, tmp_path):
    tiny_images.write(tmp_path, {"data_batch_1": CONTENT["data_batch_1"]})
    train, test, source = cifar_batches.obtain(listed, tmp_path)
    check(train, test)
    assert (source, served) == ("torchvision's download", [listed.url, listed.url])
    again = cifar_batches.obtain(listed, tmp_path)
    check(*again[:2])
    assert (again[2], len(served)) == ("torchvision's files", 2)


def test_an_archive_with_a_wrong_md5_is_neither_unpacked_nor_kept(listed, served, tmp_path, monkeypatch):
    monkeypatch.setattr(listed, "tgz_md5", "0" * 32)
    with pytest.raises(Unavailable, match=r"(?s)torchvision's files: .*data_batch_1.*download: .*has MD5"):
        cifar_batches.obtain(listed, tmp_path)
    assert not list((tmp_path / listed.base_folder).glob("*batch*"))


def test_a_root_that_cannot_be_written_is_named(listed, served, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot be written .*set data.root"):
        cifar_batches.obtain(listed, tmp_path / "file")
