"""The reader of ONNX graphs, and DINOv2 itself, against onnxruntime."""

import sys

import pytest
import torch

from experiments.models import checkpoints, dinov2_onnx
from experiments.models.dinov2 import DinoV2

pytest.importorskip("onnx")
import tiny_dinov2 as tiny


def net(depth: int = tiny.DEPTH) -> DinoV2:
    return DinoV2(tiny.SIZE, classes=4, patch_size=tiny.PATCH, depth=depth, width=tiny.WIDTH, heads=tiny.HEADS).eval()


def load(model: DinoV2, content: bytes) -> None:
    state = dinov2_onnx.convert(content, "tiny.onnx")
    checkpoints.load(model, state, "tiny.onnx", "a tiny DINOv2", align_corners=False)


def test_the_model_computes_the_hidden_state_of_the_graph():
    runtime = pytest.importorskip("onnxruntime")
    content = tiny.graph().SerializeToString()
    x = torch.randn(2, 3, tiny.SIZE, tiny.SIZE)
    (expected,) = runtime.InferenceSession(content).run([tiny.HIDDEN], {"x": x.numpy()})
    model = net()
    load(model, content)
    with torch.no_grad():
        hidden = model.tokens(x)
        torch.testing.assert_close(hidden, torch.from_numpy(expected), atol=1e-4, rtol=0)
        torch.testing.assert_close(model(x), model.head(hidden[:, 0]))


def test_the_side_on_which_a_bias_is_added_does_not_matter():
    graph = tiny.graph()
    before = dinov2_onnx.convert(graph.SerializeToString(), "tiny.onnx")
    for node in graph.graph.node:
        if node.op_type == "Add":
            node.input[:] = [*reversed(node.input)]
    after = dinov2_onnx.convert(graph.SerializeToString(), "tiny.onnx")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_the_tensors_are_the_models_but_for_its_head_and_image_size():
    state = dinov2_onnx.convert(tiny.graph().SerializeToString(), "tiny.onnx")
    wanted = {name: tensor.shape for name, tensor in net().state_dict().items() if not name.startswith("head")}
    wanted["pos_embedding"] = (1, 1 + tiny.STORED**2, tiny.WIDTH)
    assert {name: tensor.shape for name, tensor in state.items()} == wanted


def test_a_graph_of_another_depth_or_without_positions_is_refused():
    content = tiny.graph().SerializeToString()
    with pytest.raises(ValueError, match=r"tiny.onnx is not a tiny DINOv2: it lacks 'layers.2.scale1' of shape \(8,\)"):
        load(net(depth=3), content)
    with pytest.raises(ValueError, match=r"it has 'layers.1.*', which this model has not"):
        load(net(depth=1), content)
    graph = tiny.graph()
    names = [tensor.name for tensor in graph.graph.initializer]
    del graph.graph.initializer[names.index("onnx::Concat_1")]
    with pytest.raises(ValueError, match=r"it lacks 'pos_embedding' of shape \(1, 10, 8\)"):
        load(net(), graph.SerializeToString())


@pytest.mark.parametrize("content", [b"<html>not found</html>", tiny.graph().SerializeToString()[:3000]])
def test_what_is_no_onnx_file_is_one_sentence(content):
    with pytest.raises(ValueError, match=r"^tiny\.onnx cannot be read as an ONNX file"):
        dinov2_onnx.convert(content, "tiny.onnx")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"needs the package onnx: pip install -e '\.\[vit\]'"):
        dinov2_onnx.convert(b"", "tiny.onnx")
