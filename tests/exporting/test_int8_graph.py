"""Versions of an int8 graph: one rounding for each ReLU, float residuals, and the fastest version that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from restune.exporting import quantize as quantizing
from restune.exporting.int8_graph import multiply_adds
from restune.exporting.quantize import VERSIONS, quantize

CHANNELS, SIZE = 8, 12


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stem and two basic blocks with identity shortcuts on uint8 pixels, as one ONNX file; two classes."""
    random = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name: str, value: np.ndarray[Any, Any]) -> str:
        constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def conv(name: str, source: str, inputs: int) -> str:
        weight = constant(f"{name}.weight", random.normal(0, (2 / (9 * inputs)) ** 0.5, (CHANNELS, inputs, 3, 3)))
        bias = constant(f"{name}.bias", random.normal(0, 0.1, CHANNELS))
        nodes.append(helper.make_node("Conv", [source, weight, bias], [name], name, pads=[1, 1, 1, 1]))
        return name

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{source}.relu"], f"{source}.relu"))
        return f"{source}.relu"

    nodes.append(helper.make_node("Cast", ["pixels"], ["cast"], "cast", to=onnx.TensorProto.FLOAT))
    nodes.append(helper.make_node("Div", ["cast", constant("most", np.array(64.0))], ["scaled"], "scaled"))
    stream = relu(conv("stem", "scaled", 3))
    for block in ("a", "b"):
        inner = conv(f"{block}2", relu(conv(f"{block}1", stream, CHANNELS)), CHANNELS)
        nodes.append(helper.make_node("Add", [inner, stream], [f"{block}.add"], f"{block}.add"))
        stream = relu(f"{block}.add")
    nodes.append(helper.make_node("GlobalAveragePool", [stream], ["pooled"], "pooled"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"], "embedding"))
    head = constant("head", random.normal(0, 2, (CHANNELS, 2)))
    nodes.append(helper.make_node("MatMul", ["embedding", head], ["logits"], "logits"))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], "probabilities", axis=1))
    pixels = helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["N", 3, SIZE, SIZE])
    answers = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "core", [pixels], [answers], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = tmp_path_factory.mktemp("core") / "core.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def pixels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 256, (96, 3, SIZE, SIZE), dtype=np.uint8)


def _version(core: Path, pixels: Any, path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    monkeypatch.setattr(quantizing, "VERSIONS", (version,))
    monkeypatch.setattr(quantizing, "CHEAP", 1.0)
    quantize(core, path, [pixels[:32], pixels[32:64]], pixels[64:])
    return onnx.load(path)


def _makers(model: onnx.ModelProto) -> dict[str, str]:
    return {name: node.op_type for node in model.graph.node for name in node.output}


@pytest.mark.parametrize(("version", "float_convs", "add_reads"), [
    ("int8", 0, {"DequantizeLinear"}),
    ("float-residuals", 0, {"DequantizeLinear", "Relu"}),
    ("float-input", 1, {"DequantizeLinear", "Relu"}),
])  # fmt: skip
def test_each_version(
    version: str, float_convs: int, add_reads: set[str], core: Path, pixels: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    model = _version(core, pixels, tmp_path / "core.int8.onnx", version, monkeypatch)
    makers, nodes = _makers(model), model.graph.node
    assert {makers[node.input[0]] for node in nodes if node.op_type == "Relu"} == {"Conv", "Add"}
    assert {makers[name] for node in nodes if node.op_type == "Add" for name in node.input} == add_reads
    convs = [node for node in nodes if node.op_type == "Conv"]
    assert sum(makers.get(node.input[1]) != "DequantizeLinear" for node in convs) == float_convs
    session = onnxruntime.InferenceSession(str(tmp_path / "core.int8.onnx"))
    before = onnxruntime.InferenceSession(str(core)).run(None, {"pixels": pixels})[0]
    np.testing.assert_allclose(session.run(None, {"pixels": pixels})[0], before, atol=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["core.int8.onnx"]


def test_each_version_is_closer_to_float_than_the_one_before(
    core: Path, pixels: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    before = onnxruntime.InferenceSession(str(core)).run(None, {"pixels": pixels})[0]
    errors = []
    for version in VERSIONS:
        _version(core, pixels, tmp_path / f"{version}.onnx", version, monkeypatch)
        after = onnxruntime.InferenceSession(str(tmp_path / f"{version}.onnx")).run(None, {"pixels": pixels})[0]
        errors.append(float(np.square(after - before).mean()))
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize(("enough", "expected"), [(0.0, "residuals in int8"), (1.1, "first convolution in float32")])
def test_the_fastest_version_that_keeps_enough_labels_is_taken(
    enough: float, expected: str, core: Path, pixels: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(quantizing, "ENOUGH", enough)
    monkeypatch.setattr(quantizing, "CHEAP", 1.0)
    quantize(core, tmp_path / "core.int8.onnx", [pixels[:64]], pixels[64:])
    said = capsys.readouterr().err
    assert expected in said
    assert "32 items that are not scored" in said


def test_multiply_adds_as_counted_by_hand(core: Path) -> None:
    counts = multiply_adds(onnx.shape_inference.infer_shapes(onnx.load(core)))
    assert counts["stem"] == 3 * 9 * CHANNELS * SIZE * SIZE
    assert counts["b2"] == CHANNELS * 9 * CHANNELS * SIZE * SIZE
    assert len(counts) == 5
