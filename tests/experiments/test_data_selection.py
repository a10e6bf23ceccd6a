"""Shuffled, disjoint, limited parts."""

import pytest
import torch

from experiments.data import Split
from experiments.data.selection import select

NONE = {"train": None, "val": None, "test": None}


def part(count, first=0):
    """Image i has the value and the label first + i."""
    values = torch.arange(first, first + count)
    return Split(values[:, None].float(), values)


def chosen(train=20, val=4, test=6, seed=0, **limits):
    splits = select(part(train), val, part(test, 100), seed, NONE | limits)
    return [None if split is None else split.labels.tolist() for split in splits]


def test_the_held_out_images_are_the_last_of_a_seeded_shuffle():
    train, val, test = chosen()
    assert (len(train), len(val)) == (16, 4)
    assert train + val == torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    assert sorted(test) == list(range(100, 106))
    assert chosen() == [train, val, test]
    assert sorted(chosen(seed=1)[1]) != sorted(val)


def test_limits_keep_the_first_and_change_no_other_part():
    train, val, test = chosen()
    assert chosen(train=20, val=4) == [train, val, test]
    assert select_with(train=3) == [train[:3], val, test]
    assert select_with(val=2) == [train, val[:2], test]
    assert select_with(test=1) == [train, val, test[:1]]


def select_with(**limits):
    splits = select(part(20), 4, part(6, 100), 0, NONE | limits)
    return [split.labels.tolist() for split in splits]


def test_no_validation_and_validation_of_its_own():
    assert chosen(val=0)[1] is None
    train, val, _ = chosen(val=part(5, 50))
    assert len(train) == 20
    assert sorted(val) == list(range(50, 55))
    own = select(part(20), part(5, 50), part(6), 0, NONE | {"val": 2})[1]
    assert own.labels.tolist() == val[:2]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"train": 17}, "train_limit is 17: give at most 16, the images of train"),
        ({"val": 5}, "val_limit is 5: give at most 4"),
        ({"test": 7}, "test_limit is 7: give at most 6"),
    ],
)
def test_a_limit_above_what_there_is_is_refused(limits, sentence):
    with pytest.raises(ValueError, match=sentence):
        select_with(**limits)
