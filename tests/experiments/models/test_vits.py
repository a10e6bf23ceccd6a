"""torchvision's vision transformers: weights from a file and by name, sizes, classifiers, bad input."""

import re

import pytest
import torch
import torchvision
from torchvision.models import VisionTransformer, ViT_B_16_Weights, _api

from experiments.data.files import Unavailable
from experiments.models import vit_b_16, vit_tiny, vits

TINY = {"depth": 1, "width": 8, "heads": 2}
KEPT = "vit_b_16-c867db91.pth"  # the name that torchvision's address ends in


@pytest.fixture
def shrunk(monkeypatch, tmp_path):
    """torchvision's vit_b_16 with one block of width 8, and an empty folder for torch.hub, which is returned."""

    def vit(num_classes: int, image_size: int) -> VisionTransformer:
        return VisionTransformer(image_size, 16, 1, 2, 8, 32, num_classes=num_classes)

    monkeypatch.setattr(torchvision.models, "vit_b_16", vit)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(vits, "probe", lambda url: None)
    return tmp_path / "checkpoints"


def imagenet() -> dict[str, torch.Tensor]:
    """What torchvision's file holds: 1,000 classes, 224 pixels, and old names."""
    model = torchvision.models.vit_b_16(num_classes=1000, image_size=224)
    return {
        n.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t
        for n, t in model.state_dict().items()
    }


def same(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    """Whether all of `model` but the classifier and the positions is `state`, whatever its names."""
    own = [t for n, t in model.state_dict().items() if "heads" not in n and "pos" not in n]
    given = [t for n, t in state.items() if "heads" not in n and "pos" not in n]
    return len(own) == len(given) and all(torch.equal(a, b) for a, b in zip(own, given, strict=True))


def test_vit_b_16_is_torchvisions():
    with torch.device("meta"):
        found = {n: tuple(t.shape) for n, t in vit_b_16(classes=1000).state_dict().items()}
        expected = {n: tuple(t.shape) for n, t in torchvision.models.vit_b_16().state_dict().items()}
    assert found == expected


def test_imagenet_is_fetched_by_torchvisions_own_mechanism(shrunk, monkeypatch):
    state, asked = imagenet(), []

    def fetch(url, **options):
        asked.append((url, options))
        return state

    monkeypatch.setattr(_api, "load_state_dict_from_url", fetch)
    model = vit_b_16(weights="imagenet")
    assert asked[0][0] == ViT_B_16_Weights.IMAGENET1K_V1.url and asked[0][0].endswith(KEPT)
    assert asked[0][1]["check_hash"] is True and asked[0][1]["weights_only"] is True
    assert same(model, state) and model.heads.head.weight.shape == (10, 8)
    assert torch.equal(model.encoder.pos_embedding, state["encoder.pos_embedding"])


def test_imagenet_that_is_there_needs_no_network(shrunk, monkeypatch):
    def offline(url):
        raise AssertionError("nothing is to be asked")

    monkeypatch.setattr(vits, "probe", offline)
    shrunk.mkdir()
    state = imagenet()
    torch.save(state, shrunk / KEPT)
    assert same(vit_b_16(weights="imagenet"), state)
    assert torch.equal(vit_b_16(classes=1000, weights="imagenet").heads.head.weight, state["heads.head.weight"])


def test_imagenet_out_of_reach_or_damaged_is_one_sentence(shrunk, monkeypatch):
    def wrong_hash(url, **options):
        raise RuntimeError('invalid hash value (expected "c867db91", got "0")')

    monkeypatch.setattr(_api, "load_state_dict_from_url", wrong_hash)
    with pytest.raises(ValueError, match=r"cannot be fetched \(invalid hash value"):
        vit_b_16(weights="imagenet")

    def offline(url):
        raise Unavailable(f"{url}: no answer within 5 s")

    monkeypatch.setattr(vits, "probe", offline)
    expected = rf"cannot be fetched \(.*{KEPT}: no answer within 5 s\): give model.weights=PATH, a copy of {KEPT}$"
    with pytest.raises(ValueError, match=expected):
        vit_b_16(weights="imagenet")


def test_weights_of_another_image_size_are_interpolated(shrunk, tmp_path):
    state = imagenet()
    torch.save(state, tmp_path / "b16.pth")
    model = vit_b_16(weights=tmp_path / "b16.pth", image_size=48)
    assert model.encoder.pos_embedding.shape == (1, 1 + 3**2, 8) and same(model, state)
    positions = state["encoder.pos_embedding"][0, 1:].view(14, 14, 8)
    corners = model.encoder.pos_embedding[0, 1:].view(3, 3, 8)[::2, ::2]
    torch.testing.assert_close(corners, positions[::13, ::13])  # torchvision aligns the corners
    assert model(torch.zeros(2, 3, 48, 48)).shape == (2, 10)


def test_vit_b_16_refuses_another_models_file(shrunk, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(torchvision.models.squeezenet1_0().state_dict(), path)
    expected = (
        f"weights file {path} is not a state_dict of torchvision's vit_b_16: it lacks 'class_token' of shape (1, 1, 8)"
    )
    with pytest.raises(ValueError, match=re.escape(f"{expected} (its first tensor is 'features.0.weight')")):
        vit_b_16(weights=path)
    with pytest.raises(ValueError, match=r"did you mean 'imagenet'. give model.weights=imagenet or a path"):
        vit_b_16(weights="imagenet1k")


def test_vit_tiny_takes_its_own_weights_at_another_size(tmp_path):
    pretrained = vit_tiny(classes=5, image_size=24, **TINY)
    torch.save(pretrained.state_dict(), tmp_path / "own.pth")
    model = vit_tiny(weights=tmp_path / "own.pth", **TINY)
    assert same(model, pretrained.state_dict()) and model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    expected = "own.pth is not a state_dict of vit_tiny with patch_size=4, depth=2, width=8: it lacks 'encoder.layers."
    with pytest.raises(ValueError, match=re.escape(expected)):
        vit_tiny(weights=tmp_path / "own.pth", depth=2, width=8, heads=2)


def test_the_classifier_does_not_start_at_zero():
    model = vit_tiny(**TINY)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.endswith("weight"))


@pytest.mark.parametrize(
    ("build", "values", "text"),
    [
        (vit_b_16, {"image_size": 100}, "image_size is 100: give a multiple of the patch size 16, as 96 or 112"),
        (vit_b_16, {"image_size": 8}, "image_size is 8: give a multiple of the patch size 16, as 16"),
        (vit_b_16, {"classes": 0}, "classes is 0: give an integer of at least 1"),
        (vit_tiny, {"image_size": 30}, "image_size is 30: give a multiple of the patch size 4, as 28 or 32"),
        (vit_tiny, {"image_size": "32"}, "image_size is '32': give an integer"),
        (vit_tiny, {"depth": 0}, "depth is 0"),
        (vit_tiny, {"width": True}, "width is True"),
        (vit_tiny, {"heads": 3}, "width is 128: give a multiple of heads, 3"),
        (vit_tiny, {"weights": "none.pth"}, "there is no weights file none.pth: correct the path"),
    ],
)
def test_bad_values_are_refused(build, values, text):
    with pytest.raises(ValueError, match=text):
        build(**values)


def test_vit_tiny_takes_grey_images():
    assert vit_tiny(channels=1, image_size=28, patch_size=7, classes=3)(torch.rand(2, 1, 28, 28)).shape == (2, 3)
