"""Write a `Deployable` as one ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restune.core.errors import UserError
from restune.core.files import written_whole
from restune.exporting.deployable import InputSpec


def write_onnx(
    graph: nn.Module, inputs: InputSpec, outputs: tuple[str, ...], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write the graph with dynamic batch, size and length; weights inside; metadata as the file's properties."""
    onnx = _onnx()
    dynamic = {axis: torch.export.Dim(name, min=1) for axis, name in inputs.axes.items()}
    with torch.inference_mode(), _silent():
        program = torch.onnx.export(
            graph, (inputs.example,), input_names=[inputs.name], dynamo=True,
            dynamic_shapes=(dynamic,), custom_translation_table=_translations(), optimize=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    _name_outputs(program.model.graph, outputs)
    proto = program.model_proto
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    proto.producer_name = "restune"
    with written_whole(path) as temporary:
        onnx.save(proto, str(temporary))


def append_graph(first: Path, second: Path) -> None:
    """Add to `first` a graph whose only input is one of its outputs; it keeps its outputs and gains the other's."""
    onnx = _onnx()
    whole, part = onnx.load(str(first)), onnx.load(str(second))
    (shared,) = (one.name for one in part.graph.input)
    kept = {shared, *(one.name for one in part.graph.output)}
    part = onnx.compose.add_prefix(part, "appended/", rename_inputs=False, rename_outputs=False)
    assert {one.name for one in whole.graph.output} & kept == {shared}
    whole.graph.node.extend(part.graph.node)
    whole.graph.initializer.extend(part.graph.initializer)
    whole.graph.value_info.extend(part.graph.value_info)
    whole.graph.output.extend(part.graph.output)
    known = {one.domain: one.version for one in whole.opset_import}
    assert all(known.get(one.domain) == one.version for one in part.opset_import), "graphs of one opset"
    with written_whole(first) as temporary:
        onnx.save(whole, str(temporary))


def _name_outputs(graph: Any, names: tuple[str, ...]) -> None:
    """Name the graph's outputs; inner values that have such a name get another."""
    for node in graph:
        for value in node.outputs:
            if value.name in names:
                value.name = f"{value.name}_inner"
    for value, name in zip(graph.outputs, names, strict=True):
        value.name = name


def _onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(
            "exporting to ONNX needs the packages onnx and onnxscript", fix="pip install 'restune[export]'"
        ) from None
    return onnx


def _translations() -> dict[Any, Any]:
    """Return translations of operators that torch's exporter lacks.

    A stable sort in falling order is ONNX's TopK over the whole axis: among equal values the lower index comes first.
    """
    from onnxscript import opset18 as op

    def sort_stable(self: Any, stable: bool = False, dim: int = -1, descending: bool = False) -> Any:  # noqa: ARG001
        size = op.Shape(self, start=dim, end=dim + 1) if dim >= 0 else op.Shape(self, start=-1)
        return op.TopK(self, size, axis=dim, largest=int(descending), sorted=1)

    return {torch.ops.aten.sort.stable: sort_stable}


@contextlib.contextmanager
def _silent() -> Any:
    """Keep the exporter's progress and advice off the screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def run_onnx(path: Path, inputs: Tensor) -> dict[str, NDArray[Any]]:
    """Run a file in ONNX Runtime and return the outputs by name."""
    return next(outputs_in_onnx(path, [inputs.numpy()]))


def outputs_in_onnx(
    path: Path, batches: Iterable[NDArray[Any]], names: Sequence[str] | None = None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Run a file in ONNX Runtime on batches and yield the named outputs of each; None: all."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()] if names is None else names
    name = session.get_inputs()[0].name
    for batch in batches:
        yield dict(zip(names, session.run(names, {name: batch}), strict=True))
