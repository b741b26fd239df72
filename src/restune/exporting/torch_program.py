"""Write a `Deployable` as a program of torch.export (.pt2), which torch loads without restune."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._dynamo.exc import UserError as DynamoError
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError

from restune.core.errors import UserError
from restune.core.files import write_bytes
from restune.exporting.deployable import InputSpec


def write_program(graph: nn.Module, inputs: InputSpec, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write the graph with dynamic batch, size and length; metadata as the extra file ``metadata.json``.

    Raises UserError for a network whose program would hold for some lengths only: series that are cut to a length, and
    pools of the k largest values.
    """
    dynamic = {axis: torch.export.Dim(name, min=1) for axis, name in inputs.axes.items()}
    try:
        with torch.no_grad():
            program = torch.export.export(graph, (inputs.example,), dynamic_shapes=(dynamic,))
    except (DynamoError, ConstraintViolationError) as error:
        raise UserError(
            "torch.export cannot make one program for inputs of any length of this network",
            where="--to torch",
            fix="use --to onnx",
        ) from error
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that share memory, which are stored whole
        torch.export.save(program, content, extra_files={"metadata.json": json.dumps(dict(metadata))})
    write_bytes(path, content.getvalue())
    return path


def run_program(path: Path, batches: list[Tensor], names: tuple[str, ...]) -> list[dict[str, NDArray[Any]]]:
    """Run a program on batches."""
    module = torch.export.load(path).module()
    with torch.inference_mode():
        return [{name: output.numpy() for name, output in zip(names, module(batch), strict=True)} for batch in batches]
