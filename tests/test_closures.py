from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import dlrt
from dlrt.closures import Replay, clip_scale, gradient_pass


def test_a_loss_that_is_not_finite_is_divergence():
    w = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(dlrt.Divergence, match="the loss is nan") as caught:
        gradient_pass(lambda: w * math.nan, [w])
    assert caught.value.layer is None


def test_losses_of_micro_batches_add_up():
    w = torch.tensor(2.0, requires_grad=True)
    assert gradient_pass([lambda: w * 3, lambda: w**2], [w]) == 10
    assert w.grad == 7


def test_replay_repeats_random_numbers_and_leaves_the_generator_where_it_was():
    model = nn.BatchNorm1d(2)
    replay = Replay(model)
    first = torch.rand(3)
    model(torch.randn(5, 2))
    mean = model.running_mean.clone()
    state = torch.get_rng_state()
    with replay.again():
        assert torch.equal(torch.rand(3), first)
        model(torch.randn(9, 2))
    assert torch.equal(model.running_mean, mean)
    assert torch.equal(torch.get_rng_state(), state)


def test_clipping_never_lengthens():
    assert clip_scale([], [torch.tensor([3.0, 4.0])], 10.0) == 1
    assert clip_scale([], [torch.tensor([3.0]), torch.tensor([4.0])], 1.0) == pytest.approx(0.2)


class Counting(nn.Module):
    """Rebinds its buffer instead of changing it in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        return x


def test_replay_restores_buffers_that_were_rebound():
    model = Counting()
    replay = Replay(model)
    model(1)
    with replay.again():
        model(1)
    assert model.calls == 1
