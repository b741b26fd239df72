"""The metadata inside every graph: all that a program without restune needs to read inputs and to name answers."""

from __future__ import annotations

import json
from typing import Any

from restune.core.version import __version__
from restune.data.preprocess.text import TextPreprocess
from restune.data.tokens import word_pattern
from restune.exporting.deployable import OUTPUT_AXES, Deployable, InputSpec
from restune.inference.model import Model

FORMAT = 1
"""Version of the metadata. A reader refuses a higher one; keys may be added without a new version."""


def metadata(model: Model, graph: Deployable, inputs: InputSpec, precision: str = "float32") -> dict[str, str]:
    """Return text by key, as ONNX and OpenVINO store it; values other than names are JSON (null: there is none).

    Args:
        model: what was exported.
        graph: its graph.
        inputs: the graph's input.
        precision: of its convolutions, ``float32`` or ``int8``.
    """
    info, preprocess, novelty = model.info, model.preprocess, model.novelty
    has_words = isinstance(preprocess, TextPreprocess) and preprocess.tokens == "words"
    values: dict[str, Any] = {
        "restune": __version__,
        "format": FORMAT,
        "name": info.name or "",
        "task": info.task,
        "kind": info.kind,
        "classes": list(info.classes),
        "preprocess": preprocess.to_dict(),
        "word_pattern": word_pattern() if has_words else "",
        "input": _input_entry(inputs),
        "outputs": _output_entries(graph),
        "precision": precision,
        "temperature": 1.0 if model.calibration is None else model.calibration.temperature,
        "calibration": None if model.calibration is None else model.calibration.to_dict(),
        "novelty": novelty.to_dict() if novelty is not None and "novelty" in graph.output_names else None,
        "thresholds": info.outputs.threshold_row(len(info.classes)).tolist() if info.task == "multi-label" else None,
        "target_scale": None if info.target_scale is None else info.target_scale.to_dict(),
        "licence": info.licence or "",
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        for key, value in values.items()
    }


def _input_entry(inputs: InputSpec) -> dict[str, Any]:
    """Return the input's name, type and shape; axes that vary have names."""
    shape = [inputs.axes.get(axis, size) for axis, size in enumerate(inputs.example.shape)]
    return {"name": inputs.name, "dtype": str(inputs.example.dtype).removeprefix("torch."), "shape": shape}


def _output_entries(graph: Deployable) -> list[dict[str, Any]]:
    """Return the outputs' names, types and shapes, in order; axes that vary have names."""
    sizes = {"classes": graph.head.out_features, "features": graph.head.in_features}
    return [
        {"name": name, "dtype": "float32", "shape": [sizes.get(axis, axis) for axis in OUTPUT_AXES[name]]}
        for name in graph.output_names
    ]
