"""Open a graph in ONNX Runtime or OpenVINO and compute with it. Nothing but the graph's own files is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.core.machine import cpu_count
from restune.exported.files import Engine
from restune.exported.protobuf import has_external_data, metadata_of

Outputs = Mapping[str, NDArray[np.float32]]
_LARGEST = 2**31
"""Bytes of the largest ONNX file: protobuf's limit."""


@dataclass(frozen=True)
class Graph:
    """An opened graph.

    Args:
        path: its file.
        engine: its runtime.
        metadata: text by key.
        input_name, input_type: of its one input; the type as numpy calls it.
        input_shape: axes of the input, None where they vary.
        outputs: the shape of each output, by name.
        compute: an input batch and the names of outputs to these outputs.
    """

    path: Path
    engine: Engine
    metadata: Mapping[str, str]
    input_name: str
    input_type: str
    input_shape: tuple[int | None, ...]
    outputs: Mapping[str, tuple[int | None, ...]]
    compute: Callable[[NDArray[Any], Sequence[str]], list[NDArray[np.float32]]]

    def run(self, batch: NDArray[Any], names: Sequence[str]) -> Outputs:
        """Return the named outputs of a batch. Raises UserError where the runtime fails or answers are not finite."""
        try:
            found = dict(zip(names, self.compute(batch, names), strict=True))
        except Exception as error:  # runtimes raise exceptions of their own
            raise UserError(
                f"{self.engine.title} cannot compute this graph: {_reason(error)}", where=str(self.path), fix=_AGAIN
            ) from error
        first = found[names[0]]
        if len(first) != len(batch) or not np.isfinite(first).all():
            raise UserError("the graph's answers are NaN, infinite or too few", where=str(self.path), fix=_AGAIN)
        return found


_AGAIN = "write it again with `restune export`"


def open_graph(engine: Engine, path: Path) -> Graph:
    """Open a graph that `restune export` wrote. Raises UserError for any other file, and for a damaged one."""
    try:
        return _open_onnx(engine, path) if engine.name == "onnx" else _open_openvino(engine, path)
    except OSError as error:
        raise UserError(f"this file cannot be read: {error.strerror or error}", where=str(path)) from error


def _open_onnx(engine: Engine, path: Path) -> Graph:
    if path.stat().st_size >= _LARGEST:
        raise UserError("this file is too large for an ONNX graph", where=str(path), fix=_AGAIN)
    content = path.read_bytes()
    try:
        metadata, is_external = metadata_of(content), has_external_data(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is not a whole ONNX file: {_reason(error)}", where=str(path), fix=_AGAIN) from error
    reject_foreign(metadata, path)
    if is_external:
        raise UserError(
            "this graph has weights in another file, which restune never writes and does not read",
            where=str(path),
            fix=_AGAIN,
        )
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are reported by exceptions
    options.intra_op_num_threads = cpu_count()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises exceptions of its own
        raise _cannot_open(engine, path, error) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _reject_other_inputs(len(inputs), path)

    def compute(batch: NDArray[Any], names: Sequence[str]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = session.run(list(names), {inputs[0].name: batch})
        return found

    return Graph(
        path=path,
        engine=engine,
        metadata=metadata,
        input_name=inputs[0].name,
        input_type=_TYPES.get(inputs[0].type, inputs[0].type),
        input_shape=_sizes(inputs[0].shape),
        outputs={output.name: _sizes(output.shape) for output in outputs},
        compute=compute,
    )


_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}


def _open_openvino(engine: Engine, path: Path) -> Graph:
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise UserError("the weights of this graph are missing", where=str(weights), fix="copy model.bin beside it")
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(path.read_bytes(), weights.read_bytes())
        metadata = {key: value.astype(str) for key, value in model.get_rt_info()["restune"].items()} \
            if model.has_rt_info("restune") else {}  # fmt: skip
    except OSError:
        raise
    except Exception as error:  # the runtime raises exceptions of its own
        raise _cannot_open(engine, path, error) from error
    reject_foreign(metadata, path)
    _reject_other_inputs(len(model.inputs), path)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": cpu_count()}
    try:
        compiled = core.compile_model(model, "CPU", hints)
    except Exception as error:  # as above
        raise _cannot_open(engine, path, error) from error
    first = model.inputs[0]

    def compute(batch: NDArray[Any], names: Sequence[str]) -> list[NDArray[np.float32]]:
        found = compiled(batch)
        return [np.array(found[name]) for name in names]

    return Graph(
        path=path,
        engine=engine,
        metadata=metadata,
        input_name=first.get_any_name(),
        input_type={"u8": "uint8", "f32": "float32", "i64": "int64"}.get(first.element_type.get_type_name(), "other"),
        input_shape=_partial(first.get_partial_shape()),
        outputs={output.get_any_name(): _partial(output.get_partial_shape()) for output in model.outputs},
        compute=compute,
    )


def reject_foreign(metadata: Mapping[str, str], path: Path) -> None:
    """Raise UserError for a graph without restune's metadata."""
    if "restune" not in metadata or "classes" not in metadata:
        raise UserError(
            "this graph is not an export of restune: its metadata names no classes and no preprocessing",
            where=str(path),
            fix="export the model with `restune export`",
        )


def _reject_other_inputs(count: int, path: Path) -> None:
    if count != 1:
        raise UserError(f"an export has one input, this graph has {count}", where=str(path), fix=_AGAIN)


def _sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _partial(shape: Any) -> tuple[int | None, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(size.get_length() if size.is_static else None for size in shape)


def _cannot_open(engine: Engine, path: Path, error: Exception) -> UserError:
    return UserError(f"{engine.title} cannot open this graph: {_reason(error)}", where=str(path), fix=_AGAIN)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
