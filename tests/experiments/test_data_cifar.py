"""load_cifar on tiny copies: sources, splits, bad values."""

import shutil

import pytest
import tiny_images
import torch
import torchvision
from tiny_images import save

from experiments.data import cifar, load_cifar, sources
from experiments.data.files import Unavailable
from experiments.data.images import fingerprint


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    def refuse(url):
        raise Unavailable(f"{url}: no network")

    monkeypatch.setattr(sources, "probe", refuse)
    monkeypatch.setenv("DLRT_DATA", str(tmp_path / "default"))
    tiny_images.expect(monkeypatch, tiny_images.batches())


@pytest.fixture
def root(tmp_path):
    return tiny_images.folder(tmp_path / "pictures")


def values(split):
    return split.images[:, 0, 0, 0].tolist()


def test_a_folder_is_split_ten_to_one(root):
    data = load_cifar(root=root)
    assert [len(part) for part in (data.train, data.val, data.test)] == [36, 4, 20]
    assert data.train.images.shape[1:] == (3, 32, 32)
    for split in (data.train, data.val, data.test):
        assert split.labels.tolist() == [value // 20 for value in values(split)]
    assert len(set(values(data.train) + values(data.val))) == 40
    everything = load_cifar(root=root, split="50k")
    assert (len(everything.train), everything.val) == (40, None)


def test_the_source_tells_jpeg_and_a_part_of_the_images_and_not_the_place(root, tmp_path, monkeypatch):
    assert load_cifar(root=root).source == f"CIFAR-10, 40 + 20 of its images, folder pictures ({fingerprint(root)})"
    monkeypatch.setattr(cifar, "IMAGES", (40, 20))
    assert load_cifar(root=root).source == f"CIFAR-10, folder pictures ({fingerprint(root)})"
    jpeg = tiny_images.folder(tmp_path / "jpeg", suffix="jpg")
    assert load_cifar(root=jpeg).source == f"CIFAR-10 (JPEG), folder jpeg ({fingerprint(jpeg)})"


def test_limits_keep_the_first_of_the_shuffled_images(root):
    data = load_cifar(root=root)
    few = load_cifar(root=root, train_limit=5, val_limit=2, test_limit=3)
    for name, count in (("train", 5), ("val", 2), ("test", 3)):
        assert values(getattr(few, name)) == values(getattr(data, name))[:count]
    assert values(load_cifar(root=root, split_seed=1).train) != values(data.train)


def test_options_reach_the_batches(root):
    data = load_cifar(root=root, image_size=48, augment=False)
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (data.image_size, data.augment) == (48, False)
    x, _ = next(data.batches(data.test, 5))
    assert x.shape == (5, 3, 48, 48)
    assert load_cifar(root=root).augment is True
    assert load_cifar(root=root, normalization="standard").mean == (0.4914, 0.4822, 0.4465)
    assert load_cifar(root=root, normalization="unit").std == 1.0
    assert load_cifar(root=root, device="meta").val.images.device.type == "meta"


def test_cifar_100_has_a_hundred_classes(root, tmp_path):
    names = [f"{i:02d}" for i in range(100)]
    hundred = tmp_path / "hundred"
    for part in ("train", "test"):
        for i, name in enumerate(names):
            save(hundred / part / name / "0.png", i)
    data = load_cifar("cifar100", root=hundred, split="50k", normalization="standard")
    assert values(data.train) == data.train.labels.tolist()
    assert data.mean == (0.5071, 0.4865, 0.4409)
    assert data.source.startswith("CIFAR-100, ")
    with pytest.raises(ValueError, match=r"train has 10 classes and CIFAR-100 has 100: correct data.root, or use"):
        load_cifar("cifar100", root=root)


def test_torchvisions_files_are_found_below_root_and_below_the_default(tmp_path):
    tiny_images.write(tmp_path / "default", tiny_images.batches())
    data = load_cifar(split="50k")
    assert data.source == "CIFAR-10, torchvision's files"
    assert sorted(values(data.train)) == list(range(30))
    assert data.train.labels.tolist() == [value % 10 for value in values(data.train)]
    assert values(load_cifar(root=tmp_path / "default", split="50k").train) == values(data.train)


def test_an_image_folder_comes_first_and_source_forces_one(root):
    tiny_images.write(root, tiny_images.batches())
    assert "folder" in load_cifar(root=root).source
    assert "folder" in load_cifar(root=root, source="folder").source
    forced = load_cifar(root=root, source="torchvision")
    assert (forced.source, len(forced.train)) == ("CIFAR-10, torchvision's files", 27)


def test_offline_one_error_lists_what_was_tried_and_the_fix(tmp_path):
    with pytest.raises(ValueError, match="CIFAR-10 was not found and could not be fetched") as error:
        load_cifar()
    text, url = str(error.value), torchvision.datasets.CIFAR10.url
    assert "(image folder: data.root is not given; " in text and "\n" not in text
    assert f"; torchvision's files: {tmp_path / 'default'}/cifar-10-batches-py/data_batch_1 cannot be read" in text
    assert f"; torchvision's download: {url}: no network): " in text
    assert "give data.root=FOLDER with train/CLASS/IMAGE and test/CLASS/IMAGE, or put torchvision's folder" in text


def test_the_error_says_why_a_root_was_no_image_folder(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"image folder: {tmp_path / 'empty'} has not train/CLASS/IMAGE"):
        load_cifar(root=tmp_path / "empty")
    with pytest.raises(ValueError, match=r"image folder: excluded by data.source=torchvision"):
        load_cifar(root=root, source="torchvision")


def test_a_mistyped_root_is_not_downloaded_into(tmp_path):
    with pytest.raises(ValueError, match=r"root .*/typo is no folder: correct data.root"):
        load_cifar(root=tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_half_an_image_folder_is_not_replaced_by_a_download(root):
    shutil.rmtree(root / "test")
    with pytest.raises(ValueError, match=f"{root} has no folder test"):
        load_cifar(root=root)


@pytest.mark.parametrize(
    ("image", "words"), [({"size": (32, 33)}, "RGB and 32 × 33"), ({"mode": "L"}, r"grey \(L\) and 32 × 32")]
)
def test_images_that_are_not_cifars_are_named(root, image, words):
    path = save(root / "train" / "c3" / "0.png", **image)
    with pytest.raises(ValueError, match=f"{path} is {words}: images of CIFAR-10 are RGB and 32 × 32, use data=folder"):
        load_cifar(root=root, split="50k")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "cifar"}, "name is 'cifar': did you mean 'cifar10'. use cifar10 or cifar100"),
        ({"source": "web"}, "source is 'web': use torchvision or folder"),
        ({"source": "folder", "root": None}, "source is 'folder' without a folder: give data.root=FOLDER"),
        ({"split": "60k"}, "split is '60k': .*use 45k or 50k"),
        ({"normalization": None}, "normalization is None: use imagenet or standard or unit"),
        ({"split_seed": 0.5}, "split_seed is 0.5"),
        ({"image_size": -3}, "image_size is -3: give an integer of at least 1"),
        ({"augment": None}, "augment is None: give true or false"),
        ({"train_limit": 37}, "train_limit is 37: give at most 36, the images of train"),
        ({"val_limit": True}, "val_limit is True"),
    ],
)
def test_bad_values_are_refused(root, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_cifar(**({"root": root} | values))


def test_a_seeded_run_sees_the_same_batches(root):
    def epochs():
        data, generator = load_cifar(root=root, image_size=40), torch.Generator().manual_seed(3)
        return [x for _ in range(2) for x, _ in data.batches(data.train, 8, generator)]

    assert all(torch.equal(a, b) for a, b in zip(epochs(), epochs(), strict=True))
