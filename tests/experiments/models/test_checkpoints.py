"""Weights files: what is read from them, how they are fitted to a model, and one sentence for each that is not."""

import os
import re

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from experiments.models import checkpoints


class Net(nn.Module):
    """A position embedding for 3 × 3 patches, a layer and a classifier."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, 10, 4))
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, classes)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def load(model: nn.Module, tensors: dict[str, torch.Tensor], align_corners: bool = True) -> None:
    checkpoints.load(model, tensors, "FILE", "a Net", align_corners)


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_files_of_any_precision_are_read_into_float32(tmp_path, name, dtype):
    tensors = {key: tensor.to(dtype) for key, tensor in state(Net()).items()}
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save(tensors, tmp_path / name)
    found = checkpoints.read(tmp_path / name)
    assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key].float()) for key in found)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


class Command:
    """Unpickled, it runs a command."""

    def __reduce__(self):
        return os.mkdir, ("it_ran",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"a": torch.ones(1), "x": Command()}, "holds pickled objects, which are not loaded since they can run code: "),
        (Net(), "holds pickled objects"),
        (torch.ones(3), "holds a Tensor: save model.state_dict()"),
        ({"epoch": 3, "model": {}}, "is no state_dict (its 'epoch' is a int): save model.state_dict()"),
        ({"model": {"a": torch.ones(1)}}, "is no state_dict (its 'model' is a dict): save model.state_dict()"),
        ({0: torch.ones(1)}, "is no state_dict (its 0 is a Tensor): save model.state_dict()"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_state_dict_is_refused_and_not_executed(tmp_path, monkeypatch, content, problem, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=re.escape(f"weights file {path} {problem}")):
        checkpoints.read(path)
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("kept", [0, 300, 2000])
def test_a_damaged_file_is_one_sentence(tmp_path, name, kept):
    path = tmp_path / name
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=re.escape(f"{path} cannot be read as a {path.suffix} file: it is damaged")):
        checkpoints.read(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"it is damaged or incomplete, fetch it again$"):
        checkpoints.read(path)


def test_a_file_of_another_kind_and_a_missing_one_are_named(tmp_path):
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"net\.bin ends in '\.bin': give a file in \.safetensors, \.pth, \.pt"):
        checkpoints.read(tmp_path / "net.bin")
    with pytest.raises(
        ValueError, match=r"there is no weights file imagnet: did you mean 'imagenet'. give model.weights="
    ):
        checkpoints.existing("imagnet", "imagenet")
    with pytest.raises(ValueError, match=f"there is no weights file {tmp_path}: correct the path"):
        checkpoints.existing(tmp_path)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "net.pth").write_bytes(b"")
    assert checkpoints.existing("~/net.pth") == tmp_path / "net.pth"


def test_a_classifier_stays_new_unless_the_number_of_classes_agrees():
    source = state(Net(classes=2))
    for classes, kept in ((2, True), (3, False)):
        model = Net(classes)
        new = state(model)
        load(model, source)
        assert torch.equal(model.body.weight, source["body.weight"])
        expected = source if kept else new
        assert torch.equal(model.head.weight, expected["head.weight"])
        assert torch.equal(model.head.bias, expected["head.bias"])
    del source["head.weight"], source["head.bias"]
    load(Net(), source)


def test_positions_of_another_image_size_are_interpolated_as_torchvision_does():
    tensors = state(Net()) | {"pos_embedding": torch.randn(1, 1 + 7**2, 4)}
    model = Net()
    load(model, tensors)
    expected = interpolate_embeddings(48, 16, {"encoder.pos_embedding": tensors["pos_embedding"]})
    torch.testing.assert_close(model.pos_embedding.data, expected["encoder.pos_embedding"])


def test_positions_are_sampled_between_the_corners_where_dinov2_wants_it():
    rows = torch.arange(6.0).view(6, 1, 1).expand(6, 6, 4)
    positions = torch.cat([torch.full((1, 1, 4), 9.0), rows.reshape(1, 36, 4)], dim=1)
    resized = checkpoints.resized(positions, 10, align_corners=False)
    assert (resized[0, 0] == 9).all()
    torch.testing.assert_close(resized[0, 1:].view(3, 3, 4)[1:2], torch.full((1, 3, 4), 2.5))  # the middle stays there
    grid = rows.permute(2, 0, 1)[None]
    expected = F.interpolate(grid, size=(3, 3), mode="bicubic", align_corners=False)
    torch.testing.assert_close(resized[:, 1:].mT.reshape(1, 4, 3, 3), expected)


def test_positions_of_the_same_size_are_the_files_bit_for_bit():
    source, model = state(Net()), Net()
    load(model, source)
    assert torch.equal(model.pos_embedding, source["pos_embedding"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"body.weight": None}, "it lacks 'body.weight' of shape (4, 4)"),
        ({"body.weight": torch.ones(5, 4)}, "its 'body.weight' has shape (5, 4) and (4, 4) is expected"),
        ({"extra.weight": torch.ones(1)}, "it has 'extra.weight', which this model has not"),
        ({"head.weight": torch.ones(2, 5)}, "its 'head.weight' has shape (2, 5) and (2, 4) is expected"),
        ({"head.bias": torch.ones(3)}, "its 'head.bias' has shape (3,) and (2,) is expected"),
        ({"pos_embedding": torch.ones(1, 9, 4)}, "its 'pos_embedding' has shape (1, 9, 4) and (1, 10, 4) is expected"),
        (
            {"pos_embedding": torch.ones(1, 17, 5)},
            "its 'pos_embedding' has shape (1, 10, 5) and (1, 10, 4) is expected",
        ),
        ({"pos_embedding": torch.ones(10, 4)}, "its 'pos_embedding' has shape (10, 4) and (1, 10, 4) is expected"),
        ({"pos_embedding": torch.ones(1, 1, 4)}, "its 'pos_embedding' has shape (1, 1, 4) and (1, 10, 4) is expected"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(change, problem):
    tensors = {name: tensor for name, tensor in (state(Net()) | change).items() if tensor is not None}
    model = Net()
    before = state(model)
    with pytest.raises(
        ValueError, match=re.escape(f"FILE is not a Net: {problem} (its first tensor is 'pos_embedding')")
    ):
        load(model, tensors)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_file_of_another_architecture_and_an_empty_one_are_refused():
    with pytest.raises(ValueError, match=r"it lacks 'pos_embedding' of .* \(its first tensor is '0.weight'\)"):
        load(Net(), state(nn.Sequential(nn.Linear(2, 2))))
    with pytest.raises(ValueError, match=r"it lacks 'pos_embedding' of .* \(it holds none\)"):
        load(Net(), {})
