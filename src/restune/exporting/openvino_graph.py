"""Write an ONNX file as OpenVINO's graph (model.xml and model.bin), and run such a graph."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.core.files import write_bytes


def write_openvino(onnx_file: Path, path: Path, metadata: Mapping[str, str]) -> list[Path]:
    """Convert the file and write ``path`` (.xml) with its weights beside it, in float32; return both paths."""
    openvino = _openvino()
    graph = openvino.convert_model(str(onnx_file))
    for key, value in metadata.items():
        graph.set_rt_info(value, ["restune", key])
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        openvino.save_model(graph, str(temporary), compress_to_fp16=False)
        weights = path.with_suffix(".bin")
        write_bytes(weights, temporary.with_suffix(".bin").read_bytes())
        write_bytes(path, temporary.read_bytes())
    return [path, weights]


def run_openvino(path: Path, batches: list[Tensor], names: tuple[str, ...]) -> list[dict[str, NDArray[Any]]]:
    """Run a graph on batches, in float32 (OpenVINO takes bf16 silently where the processor has it)."""
    openvino = _openvino()
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = []
    for batch in batches:
        outputs = compiled(batch.numpy())
        results.append({name: np.array(outputs[place]) for place, name in enumerate(names)})
    return results


def probabilities_in_openvino(path: Path, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """Run a file on batches and yield the probabilities of each."""
    compiled = _openvino().Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for batch in batches:
        yield np.array(compiled(batch)["probabilities"])


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise UserError(
            "exporting to OpenVINO needs the package openvino", fix="pip install 'restune[export]'"
        ) from None
    return openvino
