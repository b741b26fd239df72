"""Rewrite a quantised ONNX graph, so that int8 keeps more of its accuracy and needs less time."""

from __future__ import annotations

import math
from typing import Any

_QUANTISED = ("Conv", "MaxPool", "QuantizeLinear")
"""Nodes that read quantised tensors; all others read float ones."""


def multiply_adds(model: Any) -> dict[str, int]:
    """Return the multiply-adds of each convolution for one item, in the graph's order; 0 where a shape is unknown."""
    shapes = {one.name: [axis.dim_value for axis in one.type.tensor_type.shape.dim] for one in model.graph.value_info}
    weights = {one.name: list(one.dims) for one in model.graph.initializer}
    return {
        node.name: math.prod(weights.get(node.input[1], [0])) * math.prod(shapes.get(node.output[0], [0, 0, 0])[2:])
        for node in model.graph.node
        if node.op_type == "Conv"
    }


class QdqGraph:
    """An ONNX graph with pairs of quantise and dequantise nodes.

    Args:
        model: an ``onnx.ModelProto``, which the methods change.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.nodes = model, model.graph.node
        self.constants = {one.name for one in model.graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}

    def float_source(self, name: str) -> str | None:
        """Return the float tensor that a quantise and a dequantise node turn into this one; None if they do not."""
        back = self.maker.get(name)
        if back is None or back.op_type != "DequantizeLinear" or back.input[0] in self.constants:
            return None
        there = self.maker.get(back.input[0])
        return there.input[0] if there is not None and there.op_type == "QuantizeLinear" else None

    def quantise_after_relu_only(self) -> None:
        """Let each ReLU read its layer's float output.

        onnxruntime.quantization quantises before a ReLU and after it: the first wastes half of the levels on values
        that the ReLU sets to zero, and takes time. Both runtimes fuse layer, ReLU and the second.
        """
        for node in self.nodes:
            if node.op_type == "Relu":
                node.input[0] = self.float_source(node.input[0]) or node.input[0]
        self._remove_unread()

    def float_residuals(self) -> None:
        """Let everything but convolutions and max pools read float tensors.

        The residual stream is then rounded only where a convolution reads it, and errors do not add up along it. What a
        convolution puts out stays quantised: ONNX Runtime runs it in int8 only so.
        """
        for node in self.nodes:
            for place, name in enumerate(node.input if node.op_type not in _QUANTISED else ()):
                source = self.float_source(name)
                maker = None if source is None else self.maker.get(source)
                if source is not None and (maker is None or maker.op_type not in ("Conv", "MaxPool")):
                    node.input[place] = source
        self._remove_unread()

    def _remove_unread(self) -> None:
        """Remove nodes and constants that nothing reads."""
        graph = self.model.graph
        while True:
            read = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
            unread = [node for node in graph.node if not any(name in read for name in node.output)]
            if not unread:
                break
            for node in unread:
                graph.node.remove(node)
        for constant in [one for one in graph.initializer if one.name not in read]:
            graph.initializer.remove(constant)
        self.maker = {name: node for node in self.nodes for name in node.output}
