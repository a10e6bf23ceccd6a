"""Batches: a permutation per epoch, reproducible, exactly normalised."""

import pytest
import torch

from experiments.data import Split, Splits

N = 103


@pytest.fixture
def splits():
    """Image i has the pixels i, i, i + 100, i + 100 and label i."""
    first = torch.arange(N, dtype=torch.uint8)
    images = torch.stack([first, first, first + 100, first + 100], dim=1).reshape(N, 1, 2, 2)
    part = Split(images, torch.arange(N))
    return Splits(part, None, Split(images[:7], torch.arange(7)), mean=0.1307, std=0.3081)


def epoch(splits, seed=None, batch_size=16, **options):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return list(splits.batches(splits.train, batch_size, generator, **options))


def labels(batches):
    return torch.cat([y for _, y in batches]).tolist()


def test_an_epoch_is_a_permutation_with_images_and_labels_together(splits):
    batches = epoch(splits, seed=3)
    assert [len(y) for _, y in batches] == [16] * 6 + [7]
    assert sorted(labels(batches)) == list(range(N))
    assert labels(batches) != list(range(N))
    for x, y in batches:
        pixels = (x * 0.3081 + 0.1307) * 255
        assert pixels[:, 0, 0, 0].round().long().tolist() == y.tolist()
        assert pixels[:, 0, 1, 1].round().long().tolist() == (y + 100).tolist()


def test_normalisation_is_exact_in_float32(splits):
    for seed in (None, 0):
        for x, y in epoch(splits, seed):
            exact = (splits.train.images[y].double() / 255 - 0.1307) / 0.3081
            assert x.dtype == torch.float32
            assert (x.double() - exact).abs().max() < 5e-7


def test_the_same_seed_gives_the_same_order_and_the_next_epoch_another(splits):
    assert labels(epoch(splits, seed=1)) == labels(epoch(splits, seed=1))
    assert labels(epoch(splits, seed=1)) != labels(epoch(splits, seed=2))
    generator = torch.Generator().manual_seed(1)
    first, second = (labels(splits.batches(splits.train, 16, generator)) for _ in range(2))
    assert first != second


def test_the_order_does_not_touch_the_global_generator(splits):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    epoch(splits, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_generator_the_order_is_the_stored_one(splits):
    assert labels(epoch(splits)) == list(range(N))


def test_drop_last_drops_the_incomplete_batch_only(splits):
    assert [len(y) for _, y in epoch(splits, seed=0, drop_last=True)] == [16] * 6
    assert [len(y) for _, y in epoch(splits, batch_size=N, drop_last=True)] == [N]


@pytest.mark.parametrize("drop_last", [True, False])
def test_the_order_is_torchs_permutation_of_the_seed_and_the_pixels_are_bit_by_bit_the_same(splits, drop_last):
    """Records are reproduced only if neither ever changes."""
    order = torch.randperm(N, generator=torch.Generator().manual_seed(4))
    batches = epoch(splits, seed=4, drop_last=drop_last)
    assert len(batches) == (6 if drop_last else 7)
    for i, (x, y) in enumerate(batches):
        rows = order[16 * i : 16 * (i + 1)]
        assert torch.equal(y, rows)
        assert torch.equal(x, (splits.train.images[rows].float() - 255 * 0.1307) * (1 / (255 * 0.3081)))


def test_float_images_keep_their_scale_and_are_not_written_to():
    images = torch.rand(5, 3)
    kept = images.clone()
    part = Split(images, torch.arange(5))
    data = Splits(part, part, part, mean=0.5, std=2.0)
    ((x, _),) = data.batches(part, 5)
    torch.testing.assert_close(x, (kept - 0.5) / 2)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(("size", "drop_last"), [(0, False), (-1, False), (N + 1, True)])
def test_impossible_batch_sizes_are_refused(splits, size, drop_last):
    with pytest.raises(ValueError, match=f"batch_size is {size}"):
        epoch(splits, batch_size=size, drop_last=drop_last)


def test_to_moves_every_part(splits):
    moved = splits.to("meta")
    assert {t.device.type for s in (moved.train, moved.test) for t in (s.images, s.labels)} == {"meta"}
    assert (moved.mean, moved.std, moved.val) == (0.1307, 0.3081, None)


@pytest.mark.parametrize(
    ("images", "targets", "rule"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "images have type torch.int64"),
        (torch.zeros(3, 2), torch.zeros(3), "labels have type torch.float32"),
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64), r"shape \(3, 1\)"),
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64), r"\(3, 2\) do not fit labels of shape \(4,\)"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), r"\(3,\) do not fit"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "give N >= 1"),
    ],
)
def test_unusable_tensors_are_refused(images, targets, rule):
    with pytest.raises(ValueError, match=rule):
        Split(images, targets)


def test_parts_of_different_shape_and_a_zero_std_are_refused():
    a, b = (Split(torch.zeros(2, n), torch.zeros(2, dtype=torch.int64)) for n in (3, 4))
    with pytest.raises(ValueError, match=r"test images have shape \(4,\) each and train images \(3,\)"):
        Splits(a, a, b)
    with pytest.raises(ValueError, match=r"val images"):
        Splits(a, b, a)
    with pytest.raises(ValueError, match="std is 0"):
        Splits(a, a, a, std=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_each_channel_has_its_own_normalisation(dtype):
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    images = torch.randint(0, 256, (6, 3, 4, 5)).to(dtype)
    part = Split(images, torch.arange(6))
    ((x, _),) = Splits(part, part, part, mean, std).batches(part, 6)
    assert x.dtype == torch.float32
    for c in range(3):
        exact = (images[:, c].double() / (255 if dtype == torch.uint8 else 1) - mean[c]) / std[c]
        torch.testing.assert_close(x[:, c].double(), exact, rtol=1e-6, atol=2e-6)


def test_one_mean_may_go_with_a_std_for_each_channel_and_channels_may_be_features():
    part = Split(torch.rand(4, 2), torch.arange(4))
    ((x, _),) = Splits(part, part, part, 0.5, (1.0, 2.0)).batches(part, 4)
    torch.testing.assert_close(x, (part.images - 0.5) / torch.tensor([1.0, 2.0]))


def test_to_keeps_everything_but_the_device():
    part = Split(torch.rand(4, 3, 8, 8), torch.arange(4))
    moved = Splits(part, part, part, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "here", 16, True).to("meta")
    assert moved.val.images.device.type == "meta"
    assert (moved.mean, moved.std, moved.source) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), "here")
    assert (moved.image_size, moved.augment) == (16, True)


def test_take_copies_rows_in_order(splits):
    taken = splits.train.take(torch.tensor([5, 2]))
    assert taken.labels.tolist() == [5, 2]
    assert taken.images[:, 0, 0, 0].tolist() == [5, 2]


@pytest.mark.parametrize(
    ("shape", "options", "rule"),
    [
        ((2, 3, 8, 8), {"mean": (0.1, 0.2)}, r"mean is \(0.1, 0.2\): give one number, or one for each of the 3"),
        ((2, 1, 8, 8), {"std": (0.1, 0.2, 0.3)}, r"std is .*each of the 1 channels"),
        ((2, 3, 8, 8), {"std": (0.1, 0.0, 0.3)}, r"std is \(0.1, 0.0, 0.3\): it must be positive"),
        ((2, 3, 8, 8), {"std": float("nan")}, "std is nan: it must be positive"),
        ((2, 64), {"augment": True}, r"shape \(64,\) each: only \(C, H, W\) can be resized or augmented"),
        ((2, 8, 8), {"image_size": 16}, "only"),
        ((2, 3, 8, 8), {"image_size": 0}, "image_size is 0: give a positive number"),
    ],
)
def test_values_that_do_not_fit_the_images_are_refused(shape, options, rule):
    part = Split(torch.zeros(shape), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=rule):
        Splits(part, part, part, **options)
