"""What the steps run on."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_mnist
import torch

from experiments.benchmark import inputs
from experiments.benchmark.cases import Case

CPU = torch.device("cpu")
MLP = Case("mlp", 8, 4, 2, "bug")


def test_mnist_is_taken_where_it_is_and_nothing_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLRT_DATA", str(tmp_path))
    monkeypatch.setattr("experiments.data.mnist._fetch", lambda *args: pytest.fail("something is fetched"))
    assert inputs.images(MLP, 0, CPU).source == "random images"
    content = tiny_mnist.raw_files()
    tiny_mnist.expect(monkeypatch, content)
    monkeypatch.setattr(inputs, "IMAGES", 30)
    tiny_mnist.write(content, tmp_path)
    data = inputs.images(MLP, 0, CPU)
    assert data.source.startswith("folder ") and len(data.train) == 30


def test_batches_differ_have_their_size_and_repeat_images_only_if_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_at_hand", lambda folder: False)
    monkeypatch.setattr(inputs, "IMAGES", 50)
    data = inputs.images(MLP, 3, CPU)
    small = inputs.batches(data, 4)
    assert len(small) == inputs.BATCHES and all(x.shape == (4, 1, 28, 28) for ((x, _),) in small)
    assert not torch.equal(small[0][0][0], small[1][0][0])
    (((x, y),),) = inputs.batches(data, 70)
    assert len(y) == 70 and torch.equal(x[:20], x[50:]) and not torch.equal(x[0], x[1])
    assert torch.equal(x, inputs.batches(inputs.images(MLP, 3, CPU), 70)[0][0][0])


def test_images_for_a_vision_transformer_are_random_of_its_size_and_enough() -> None:
    case = Case("vit_tiny", None, 6, 3, "lora", image_size=12)
    data = inputs.images(case, 0, CPU)
    made = inputs.batches(data, 6)
    assert data.source == "random images" and len(made) == inputs.BATCHES
    assert all(x.shape == (6, 3, 12, 12) for ((x, _),) in made) and torch.cat([x for ((x, _),) in made]).std() > 0.5
    assert not torch.equal(made[0][0][0], inputs.batches(inputs.images(case, 1, CPU), 6)[0][0][0])
