"""The loaders' common rules."""

import pytest

from experiments.data.arguments import check_choice, check_flag, check_integer, check_positive


def test_good_values_pass():
    check_choice("split", "45k", ("45k", "50k"))
    check_integer("split_seed", 0, 0)
    check_positive(image_size=None, train_limit=1)
    check_flag("augment", False)


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda: check_choice("split", "45", ("45k", "50k")), "split is '45': did you mean '45k'. use 45k or 50k"),
        (lambda: check_integer("split_seed", -1, 0), "split_seed is -1: give an integer of at least 0"),
        (lambda: check_integer("split_seed", True, 0), "split_seed is True: give an integer"),
        (lambda: check_positive(image_size=32, val_limit=0), "val_limit is 0: give an integer of at least 1"),
        (lambda: check_flag("augment", "yes"), "augment is 'yes': give true or false"),
        (lambda: check_flag("augment", 1), "augment is 1: give true or false"),
    ],
)
def test_bad_values_are_named_with_their_rule(check, sentence):
    with pytest.raises(ValueError, match=sentence):
        check()
