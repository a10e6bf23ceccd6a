"""The losses of the timed path against those of the plain one."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch

from dlrt import gram
from experiments.benchmark import curves
from experiments.benchmark.cases import Case
from experiments.timing_tasks import Batches

CPU = torch.device("cpu")
CASE = Case("mlp", 16, 8, 2, "aug_bug")


def inputs() -> list[Batches]:
    return [[(torch.randn(8, 1, 28, 28), torch.arange(8) % 10)] for _ in range(2)]


def test_the_plain_path_is_switched_on_for_one_of_the_two_trainings() -> None:
    switches: list[bool] = []
    train = curves.contenders.Contender.train

    def noted(self: Any, batches: Batches) -> torch.Tensor:
        switches.append(gram.enabled)
        return train(self, batches)

    with mock.patch.object(curves.contenders.Contender, "train", noted):
        found = curves.deviation(CASE, inputs(), 3, 0, CPU)
    assert switches == [True] * 3 + [False] * 3
    assert found["steps"] == 3 and found["first_loss"] > found["last_loss"] > 0
    assert found["deviation"] < 1e-4


def test_the_largest_relative_difference_is_reported() -> None:
    fast, plain = torch.tensor([2.0, 1.1, 0.5]), torch.tensor([2.0, 1.0, 0.49])
    with mock.patch.object(curves, "losses", side_effect=[fast, plain]):
        found = curves.deviation(CASE, inputs(), 3, 0, CPU)
    assert found["deviation"] == pytest.approx(0.1) and found["last_loss"] == 0.5
