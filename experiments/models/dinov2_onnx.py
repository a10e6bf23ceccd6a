"""The tensors of a DINOv2 in an ONNX graph, under the names that `dinov2.DinoV2` gives them. Nothing is executed."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

PREFIX = "backbone."
NAMES = {
    "embeddings.cls_token": "class_token",
    "embeddings.patch_embeddings.projection.": "patches.",
    "encoder.layer.": "layers.",
    ".attention.output.dense.": ".self_attention.out_proj.",
    ".layer_scale1.lambda1": ".scale1",
    ".layer_scale2.lambda1": ".scale2",
    "layernorm.": "norm.",
}


def onnx_package() -> ModuleType:
    """The package onnx. Raises ValueError if it is not installed."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ValueError("reading an ONNX file needs the package onnx: pip install -e '.[vit]'") from error
    return onnx


def convert(content: bytes, source: str) -> dict[str, Tensor]:
    """The tensors of the graph whose names begin with "backbone.", and the anonymous ones that belong to them.

    What the graph lacks is left out. Raises ValueError, naming `source`, if `content` is not an ONNX file with its
    tensors in it.
    """
    onnx = onnx_package()
    try:
        graph = onnx.load_model_from_string(content).graph
        stored = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}
    except Exception as error:  # protobuf has its own, and what a damaged file raises is anyone's guess
        raise ValueError(f"{source} cannot be read as an ONNX file: {error}") from error
    named = {**stored, **_linear_weights(graph, stored), **_positions(graph, stored)}
    return _packed({_renamed(n): t for n, t in named.items() if n.startswith(PREFIX)})


def _linear_weights(graph: Any, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The second factor of each product to which a stored "….bias" is added, transposed, as "….weight"."""
    factors = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    weights = {}
    for add in (node for node in graph.node if node.op_type == "Add"):
        for bias, product in (add.input, reversed(add.input)):
            if bias in stored and factors.get(product) in stored:
                weights[bias.removesuffix("bias") + "weight"] = stored[factors[product]].T.contiguous()
    return weights


def _positions(graph: Any, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The position embedding (1, 1 + n², width): the graph concatenates the class token's to the reshaped patches'."""
    parts = {
        node.op_type: stored[name]
        for node in graph.node
        for name in node.input
        if node.op_type in ("Concat", "Reshape") and name in stored and stored[name].dim() == 3
    }
    if len(parts) < 2:
        return {}
    return {PREFIX + "pos_embedding": torch.cat([parts["Concat"], parts["Reshape"]], dim=1)}


def _renamed(name: str) -> str:
    name = name.removeprefix(PREFIX)
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _packed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value below each other, as nn.MultiheadAttention has them."""
    for name in [name for name in state if ".attention.attention.query." in name]:
        parts = [name.replace("query", part) for part in ("query", "key", "value")]
        if all(part in state for part in parts):
            packed = name.replace(".attention.attention.query.", ".self_attention.in_proj_")
            state[packed] = torch.cat([state.pop(part) for part in parts])
    return state
