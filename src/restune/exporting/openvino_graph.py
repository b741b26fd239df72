"""Write an ONNX file as OpenVINO's graph (model.xml and model.bin), and run such a graph."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.core.files import write_bytes

_LARGE = 2**14
"""Bytes from which on a constant is worth storing in half the space."""


def write_openvino(onnx_file: Path, path: Path, metadata: Mapping[str, str]) -> list[Path]:
    """Convert the file and write ``path`` (.xml) with its weights beside it, in float32; return both paths."""
    openvino = _openvino()
    graph = openvino.convert_model(str(onnx_file))
    _store_halves(graph)
    for key, value in metadata.items():
        graph.set_rt_info(value, ["restune", key])
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        openvino.save_model(graph, str(temporary), compress_to_fp16=False)
        weights = path.with_suffix(".bin")
        write_bytes(weights, temporary.with_suffix(".bin").read_bytes())
        write_bytes(path, temporary.read_bytes())
    return [path, weights]


def _store_halves(graph: Any) -> None:
    """Store large float32 constants whose values are all float16 numbers as such, which the conversion widened.

    The values stay what they are; the embeddings that novelty is scored against take half the space.
    """
    from openvino import opset13

    for constant in graph.get_ops():
        if constant.get_type_name() != "Constant" or constant.get_element_type().to_dtype() != np.float32:
            continue
        values = constant.get_data()
        if values.nbytes < _LARGE or not np.array_equal(values, values.astype(np.float16)):
            continue
        readers = list(constant.output(0).get_target_inputs())
        widened = opset13.convert(opset13.constant(values.astype(np.float16)), "f32")
        for reader in readers:
            reader.replace_source_output(widened.output(0))


def run_openvino(path: Path, batches: list[Tensor], names: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    """Run a graph on batches and return the named outputs of each."""
    return list(outputs_in_openvino(path, [batch.numpy() for batch in batches], names))


def outputs_in_openvino(
    path: Path, batches: Iterable[NDArray[Any]], names: Sequence[str]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Run a file on batches, in float32 (OpenVINO takes bf16 silently where the processor has it)."""
    compiled = _openvino().Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in batches:
        outputs = compiled(batch)
        yield {name: np.array(outputs[name]) for name in names}


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise UserError(
            "exporting to OpenVINO needs the package openvino", fix="pip install 'restune[export]'"
        ) from None
    return openvino
