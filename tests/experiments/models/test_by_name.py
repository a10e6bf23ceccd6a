"""Models by name."""

import pytest
from torch import nn

from experiments import models


def test_build_calls_the_target():
    layer = models.build("torch.nn:Linear", in_features=3, out_features=2)
    assert isinstance(layer, nn.Linear) and layer.weight.shape == (2, 3)
    with pytest.raises(ValueError, match="unknown key 'witdh' in kwargs: did you mean 'width'"):
        models.build("experiments.models:mlp", witdh=3)
    with pytest.raises(ValueError, match="builtins:dict returned a dict: it must return a torch"):
        models.build("builtins:dict")
