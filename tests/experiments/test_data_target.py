"""Users' own data by name."""

import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from experiments.data import Split, Splits, load_target
from experiments.importing import resolve

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"


def pair(n=4, shape=(3,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator), torch.arange(n) % 2


def three_pairs(n=4):
    return pair(n), pair(n + 1), pair(n + 2)


def without_validation():
    return pair(), None, pair()


def own_splits(mean=0.0):
    part = Split(*pair())
    return Splits(part, None, part, mean=mean, std=2.0, source="measured")


def returns(value):
    return value


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """This module under a name that a target can have."""
    monkeypatch.setitem(sys.modules, "own_data", sys.modules[__name__])


def test_a_tuple_of_pairs_becomes_splits():
    data = load_target("own_data:three_pairs", n=6)
    assert (len(data.train), len(data.val), len(data.test)) == (6, 7, 8)
    assert data.source == "own_data:three_pairs"
    ((x, y),) = data.batches(data.train, 6)
    torch.testing.assert_close(x, pair(6)[0])
    assert y.tolist() == [0, 1, 0, 1, 0, 1]
    assert load_target("own_data:without_validation").val is None


def test_splits_are_kept_and_moved():
    data = load_target("own_data:own_splits", mean=0.5, device="meta")
    assert (data.mean, data.std, data.source) == (0.5, 2.0, "measured")
    assert data.train.images.device.type == "meta"
    assert load_target("own_data:three_pairs", device="meta").val.labels.device.type == "meta"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, "returned a NoneType: it must return a Splits or"),
        ([pair(), pair(), pair()], "returned a list"),
        ((pair(), pair()), "returned a tuple of 2"),
        ((pair(), pair(), torch.zeros(3)), "no pair of tensors for test"),
        (((1, 2), pair(), pair()), "no pair of tensors for train"),
        ((None, pair(), pair()), "no pair of tensors for train"),
        ((pair(), (pair()[0], torch.zeros(4)), pair()), "unusable data for val: labels have type torch.float32"),
        ((pair(), pair(), (pair()[0], pair(5)[1])), "unusable data for test: images of shape"),
        ((pair(), pair(), pair(shape=(4,))), "test images have shape"),
    ],
)
def test_another_return_value_is_refused(value, rule):
    with pytest.raises(ValueError, match=rule):
        load_target("own_data:returns", value=value)


def test_keys_are_checked_before_the_call():
    with pytest.raises(ValueError, match="unknown key 'number' in kwargs: own_data:three_pairs takes n"):
        load_target("own_data:three_pairs", number=3)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_config_names_a_callable_that_takes_its_kwargs(path):
    config = OmegaConf.load(path)
    assert config.name == path.stem
    if path.stem == "import":
        assert OmegaConf.is_missing(config, "target")
    else:
        resolve(config.target, config.kwargs)
