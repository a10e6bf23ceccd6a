"""Users' folders of images."""

import numpy as np
import pytest
import tiny_images
import torch
from tiny_images import TEST, TRAIN, grey, save

from experiments.data import load_folder
from experiments.data.folder import measured
from experiments.data.images import fingerprint

CATS = ["cat", "dog", "owl"]


@pytest.fixture
def root(tmp_path):
    return tiny_images.folder(tmp_path / "pets", CATS, size=(12, 8))


def values(split):
    assert (split.images == split.images[:, :1, :1, :1]).all()
    return split.images[:, 0, 0, 0].tolist()


def all_of(part, count):
    return sorted(grey(part, label, number) for label in range(len(CATS)) for number in range(count))


def test_a_folder_becomes_three_parts(root):
    data = load_folder(root, val_fraction=0.25)
    assert data.train.images.shape == (9, 3, 8, 12)
    assert data.train.images.dtype == torch.uint8
    assert sorted(values(data.train) + values(data.val)) == all_of("train", TRAIN)
    assert sorted(values(data.test)) == all_of("test", TEST)
    for split in (data.train, data.val, data.test):
        assert split.labels.tolist() == [value // 20 for value in values(split)]
    assert data.source == f"folder pets ({fingerprint(root)})"
    assert (data.image_size, data.augment) == (None, True)


def test_the_split_and_the_limits_are_those_of_the_seed(root):
    data = load_folder(root, val_fraction=0.25)
    few = load_folder(str(root), val_fraction=0.25, train_limit=4, val_limit=1, test_limit=2)
    for name, count in (("train", 4), ("val", 1), ("test", 2)):
        assert values(getattr(few, name)) == values(getattr(data, name))[:count]
    assert sorted(values(load_folder(root, val_fraction=0.25, split_seed=1).val)) != sorted(values(data.val))


def test_a_validation_folder_is_used_in_place_of_a_fraction(root):
    tiny_images.folder(root, CATS, ["val"], size=(12, 8))
    data = load_folder(root, val_fraction=0.5)
    assert (len(data.train), sorted(values(data.val))) == (len(CATS) * TRAIN, all_of("train", TRAIN))


def test_no_fraction_is_no_validation_and_a_small_one_is_one_image(root):
    assert load_folder(root, val_fraction=0).val is None
    assert len(load_folder(root, val_fraction=0.001).val) == 1


def test_images_of_any_size_are_brought_to_the_stored_one(root):
    save(root / "train" / "owl" / "wide.png", 77, size=(50, 9))
    with pytest.raises(ValueError, match=r"wide.png is RGB and 50 × 9: .*stored_size=SIDE"):
        load_folder(root)
    data = load_folder(root, stored_size=6, val_fraction=0, image_size=10)
    assert data.train.images.shape == (13, 3, 6, 6)
    assert sorted(values(data.train)) == sorted([*all_of("train", TRAIN), 77])
    assert next(data.batches(data.train, 4, torch.Generator()))[0].shape == (4, 3, 10, 10)


def test_grey_images_have_one_channel_and_no_imagenet_constants(tmp_path):
    root = tiny_images.folder(tmp_path, CATS, mode="L")
    assert load_folder(root, normalization="unit").train.images.shape[1:] == (1, 32, 32)
    with pytest.raises(ValueError, match="normalization is 'imagenet' and the images are grey: use standard or unit"):
        load_folder(root)


def test_normalisation(root):
    data = load_folder(root)
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    unit = load_folder(root, normalization="unit")
    assert (unit.mean, unit.std) == (0.0, 1.0)
    standard = load_folder(root, normalization="standard")
    x = torch.cat([x for x, _ in standard.batches(standard.train, 4)]).double()
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3).double(), rtol=0, atol=1e-5)


def test_measured_constants_are_numpys():
    images = torch.randint(0, 256, (7, 2, 5, 4), dtype=torch.uint8)
    mean, std = measured(images)
    pixels = images.numpy() / 255.0
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "mode", "sentence"),
    [
        (
            "train/cat/0.png",
            "RGBA",
            r"train/cat/0.png is RGBA and 12 × 8: convert the images to RGB, or all of them to",
        ),
        ("train/cat/0.png", "P", r"0.png is of a palette \(P\) and"),
        (
            "test/owl/1.png",
            "L",
            r"owl/1.png is grey \(L\) and 12 × 8: the first image, .*/0.png, is RGB and 12 × 8; make",
        ),
    ],
)
def test_an_image_of_another_mode_is_named(root, name, mode, sentence):
    save(root / name, mode=mode, size=(12, 8))
    for stored in (None, 8):
        with pytest.raises(ValueError, match=sentence):
            load_folder(root, stored_size=stored)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"root": None}, "the folder of the images is not given: give data.root=FOLDER with train/CLASS/IMAGE"),
        ({"root": "nowhere"}, "root nowhere is no folder"),
        ({"source": "torchvision"}, "source is 'torchvision': data=folder reads folders only"),
        ({"val_fraction": 1}, "val_fraction is 1: give a number of at least 0 and below 1"),
        ({"val_fraction": 0.99}, "val_fraction is 0.99: of 12 training images none would be left"),
        ({"val_fraction": True}, "val_fraction is True"),
        ({"split_seed": -1}, "split_seed is -1"),
        ({"normalization": "none"}, "normalization is 'none': use imagenet or standard or unit"),
        ({"augment": "crop"}, "augment is 'crop': give true or false"),
        ({"image_size": 0}, "image_size is 0: give an integer of at least 1"),
        ({"stored_size": 1.5}, "stored_size is 1.5"),
        ({"test_limit": 0}, "test_limit is 0"),
        ({"test_limit": 7}, "test_limit is 7: give at most 6"),
    ],
)
def test_bad_values_are_refused(root, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_folder(**({"root": root} | values))
