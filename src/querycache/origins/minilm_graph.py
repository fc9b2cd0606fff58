"""The transformer all-MiniLM-L6-v2 as an ONNX graph, made from its published weights.

BERT (Devlin et al. 2019, arXiv:1810.04805) with 6 layers, 384 dimensions and 12 heads, up to the
mean over the pieces of a text. The graph takes texts of one length at a time, so it needs neither
padding nor masks; the three projections of a layer's attention are one multiplication.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[np.float32]]

LAYERS: Final = 6
DIMENSIONS: Final = 384
INPUT: Final = "input_ids"
OUTPUT: Final = "mean"

_HEADS: Final = 12
_HEAD: Final = DIMENSIONS // _HEADS
_EPSILON: Final = 1e-12
_OPSET: Final = 17
_IR: Final = 8


class _Graph:
    """Nodes and constants as they are added; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def numbers(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def node(self, kind: str, name: str, *inputs: str, **attributes: float | list[int]) -> str:
        node = helper.make_node(kind, list(inputs), [name], name=name)
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in sorted(attributes.items())
        )
        self.nodes.append(node)
        return name

    def linear(
        self, name: str, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> str:
        w = self.constant(f"{name}.w", np.ascontiguousarray(weight.T))
        b = self.constant(f"{name}.b", bias)
        return self.node("Add", name, self.node("MatMul", f"{name}.product", x, w), b)

    def norm(self, name: str, x: str, weights: Weights, source: str) -> str:
        scale = self.constant(f"{name}.scale", weights[f"{source}.weight"])
        shift = self.constant(f"{name}.shift", weights[f"{source}.bias"])
        return self.node("LayerNormalization", name, x, scale, shift, axis=-1, epsilon=_EPSILON)


def build(weights: Weights) -> ModelProto:
    """int64 (texts, pieces) in, float32 (texts, 384) out: the mean, not yet of unit length.

    `weights` are named as in the published model.safetensors; a missing one raises KeyError.
    """
    graph = _Graph()
    graph.numbers("first", 0)
    graph.numbers("second", 1)
    graph.numbers("split.shape", 0, 0, _HEADS, _HEAD)
    graph.numbers("join.shape", 0, 0, DIMENSIONS)
    graph.scalar("head.scale", 1 / np.sqrt(_HEAD))
    graph.scalar("half", 0.5)
    graph.scalar("one", 1.0)
    graph.scalar("root", 1 / np.sqrt(2))
    x = _embedded(graph, weights)
    for layer in range(LAYERS):
        x = _layer(graph, weights, f"encoder.layer.{layer}", x)
    graph.node("ReduceMean", OUTPUT, x, axes=[1], keepdims=0)
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info(INPUT, TensorProto.INT64, ["texts", "pieces"])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["texts", DIMENSIONS])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
    )


def _embedded(graph: _Graph, weights: Weights) -> str:
    # Every piece is of the first segment, so its vector is part of each position's.
    places = (
        weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    graph.constant("pieces", weights["embeddings.word_embeddings.weight"])
    graph.constant("places", places)
    graph.node("Gather", "pieces.found", "pieces", INPUT, axis=0)
    graph.node("Shape", "shape", INPUT)
    graph.node("Slice", "length", "shape", "second", graph.numbers("end", 2))
    graph.node("Slice", "places.found", "places", "first", "length", "first")
    x = graph.node("Add", "embedded", "pieces.found", "places.found")
    return graph.norm("embedded.norm", x, weights, "embeddings.LayerNorm")


def _layer(graph: _Graph, weights: Weights, name: str, x: str) -> str:
    attended = graph.linear(
        f"{name}.out",
        _attention(graph, weights, name, x),
        weights[f"{name}.attention.output.dense.weight"],
        weights[f"{name}.attention.output.dense.bias"],
    )
    x = graph.norm(
        f"{name}.norm",
        graph.node("Add", f"{name}.attended", attended, x),
        weights,
        f"{name}.attention.output.LayerNorm",
    )
    wide = graph.linear(
        f"{name}.wide",
        x,
        weights[f"{name}.intermediate.dense.weight"],
        weights[f"{name}.intermediate.dense.bias"],
    )
    narrow = graph.linear(
        f"{name}.narrow",
        _gelu(graph, f"{name}.gelu", wide),
        weights[f"{name}.output.dense.weight"],
        weights[f"{name}.output.dense.bias"],
    )
    added = graph.node("Add", f"{name}.added", narrow, x)
    return graph.norm(f"{name}.last", added, weights, f"{name}.output.LayerNorm")


def _attention(graph: _Graph, weights: Weights, name: str, x: str) -> str:
    """softmax(q k^T / sqrt(32)) v for each head, joined again."""
    source = f"{name}.attention.self"
    parts = ("query", "key", "value")
    both = graph.linear(
        f"{name}.qkv",
        x,
        np.concatenate([weights[f"{source}.{part}.weight"] for part in parts]),
        np.concatenate([weights[f"{source}.{part}.bias"] for part in parts]),
    )
    graph.nodes.append(
        helper.make_node("Split", [both], [f"{name}.{part}" for part in parts], axis=-1)
    )
    for part, order in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True):
        split = graph.node("Reshape", f"{name}.{part}.split", f"{name}.{part}", "split.shape")
        graph.node("Transpose", f"{name}.{part}.heads", split, perm=order)
    score = graph.node("MatMul", f"{name}.score", f"{name}.query.heads", f"{name}.key.heads")
    scaled = graph.node("Mul", f"{name}.scaled", score, "head.scale")
    share = graph.node("Softmax", f"{name}.share", scaled, axis=-1)
    mixed = graph.node("MatMul", f"{name}.mixed", share, f"{name}.value.heads")
    back = graph.node("Transpose", f"{name}.back", mixed, perm=[0, 2, 1, 3])
    return graph.node("Reshape", f"{name}.joined", back, "join.shape")


def _gelu(graph: _Graph, name: str, x: str) -> str:
    """The exact form, x / 2 * (1 + erf(x / sqrt(2))), spelt so that the runtime knows it."""
    error = graph.node("Erf", f"{name}.erf", graph.node("Mul", f"{name}.root", x, "root"))
    share = graph.node("Add", f"{name}.share", error, "one")
    return graph.node("Mul", name, graph.node("Mul", f"{name}.x", x, share), "half")
