"""Crops, flips and resizing against torchvision's functions on one image at a time."""

import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from experiments.data import Split, Splits
from experiments.data.augment import crop_and_flip, draw, resize


def numbered(n=40, c=3, h=16, w=24, dtype=torch.uint8):
    return torch.randint(1, 256, (n, c, h, w)).to(dtype)


def one_by_one(images, moves):
    h, w = images.shape[2:]
    made = []
    for image, (top, left, flip) in zip(images, moves.tolist(), strict=True):
        window = vision.crop(vision.pad(image, [w // 8, h // 8]), top, left, h, w)
        made.append(vision.horizontal_flip(window) if flip else window)
    return torch.stack(made)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(16, 24), (32, 32), (5, 7)])
def test_crops_and_flips_are_those_of_single_images(dtype, size):
    images = numbered(h=size[0], w=size[1], dtype=dtype)
    moves = draw(images.shape, torch.Generator().manual_seed(0))
    made = crop_and_flip(images, moves)
    assert made.dtype == dtype
    assert torch.equal(made, one_by_one(images, moves))


def test_every_move_is_drawn_about_equally_often():
    moves = draw((18_000, 3, 32, 16), torch.Generator().manual_seed(0))
    for column, count in enumerate((9, 5, 2)):
        seen = torch.bincount(moves[:, column], minlength=count) * count / len(moves)
        assert len(seen) == count and (seen - 1).abs().max() < 0.1
    assert torch.corrcoef(moves.T.double()).triu(1).abs().max() < 0.03


@pytest.mark.parametrize(("shape", "size"), [((32, 32), 224), ((32, 32), 14), ((40, 20), 30), ((40, 20), 8)])
def test_resizing_is_torchvisions(shape, size):
    images = torch.rand(3, 3, *shape)
    expected = vision.resize(images, [size, size], vision.InterpolationMode.BILINEAR, antialias=True)
    torch.testing.assert_close(resize(images, size), expected, rtol=0, atol=1e-6)


def test_images_of_the_wanted_size_are_left_alone():
    images = torch.rand(2, 3, 8, 8)
    assert resize(images, 8) is images


MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def data(augment=True, image_size=None):
    part = Split(numbered(), torch.arange(40))
    return Splits(part, part, part, MEAN, STD, image_size=image_size, augment=augment)


def epoch(splits, seed=1, batch_size=16, **options):
    return list(splits.batches(splits.train, batch_size, torch.Generator().manual_seed(seed), **options))


def together(batches):
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def test_an_epoch_is_the_permutation_then_the_moves_of_all_images_and_cropping_comes_before_normalisation():
    splits, generator = data(), torch.Generator().manual_seed(1)
    order = torch.randperm(40, generator=generator)
    moves = draw(splits.train.images.shape, generator)
    expected = vision.normalize(one_by_one(splits.train.images[order], moves) / 255, list(MEAN), list(STD))
    x, y = together(epoch(splits))
    assert torch.equal(y, order)
    torch.testing.assert_close(x, expected, rtol=0, atol=2e-6)


def test_resizing_comes_after_cropping_and_equals_resizing_the_pixels():
    plain = data()
    resized = Splits(plain.train, None, plain.test, MEAN, STD, image_size=20, augment=True)
    (small, _), (large, _) = together(epoch(plain)), together(epoch(resized))
    pixels = small * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    expected = vision.normalize(vision.resize(pixels, [20, 20], antialias=True), list(MEAN), list(STD))
    torch.testing.assert_close(large, expected, rtol=0, atol=5e-6)


def test_the_seed_decides_on_every_epoch_whatever_the_batches():
    splits = data()
    x, y = together(epoch(splits))
    assert all(torch.equal(a, b) for a, b in zip((x, y), together(epoch(splits, batch_size=7)), strict=True))
    assert not torch.equal(x, together(epoch(splits, seed=2))[0])
    assert torch.equal(x[:32], together(epoch(splits, drop_last=True))[0])

    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    next(splits.batches(splits.train, 5, one))  # an epoch cut short draws as much as a whole one
    list(splits.batches(splits.train, 40, other))
    second = [next(splits.batches(splits.train, 40, generator))[0] for generator in (one, other)]
    assert torch.equal(*second) and not torch.equal(second[0], x)


def test_augmentation_leaves_the_first_order_and_the_global_generator_alone():
    torch.manual_seed(0)
    splits, plain = data(), data(augment=False)
    state = torch.get_rng_state()
    assert torch.equal(together(epoch(splits))[1], together(epoch(plain))[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_generator_nothing_is_augmented():
    splits = data()
    x, y = together(splits.batches(splits.val, 16))
    assert torch.equal(y, torch.arange(40))
    expected = vision.normalize(splits.val.images / 255, list(MEAN), list(STD))
    torch.testing.assert_close(x, expected, rtol=0, atol=2e-6)


def test_the_stored_images_stay_as_they_are():
    splits = data()
    kept = splits.train.images.clone()
    epoch(splits)
    assert torch.equal(splits.train.images, kept)
