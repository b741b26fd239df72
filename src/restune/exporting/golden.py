"""Golden files: raw inputs and the outputs that a program reading the export must compute."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.files import write_text
from restune.evaluation.logits import write_arrays
from restune.exporting.raw_examples import RawExample


def write_golden(
    folder: Path, examples: Sequence[RawExample], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> list[Path]:
    """Write ``golden.npz`` (arrays) and ``golden.json`` (the same without the inputs' values, for small readers).

    The arrays are ``input_0``, ``input_1``, ... and ``probabilities`` ``[n, classes]``.
    """
    arrays: dict[str, NDArray[Any]] = {f"input_{i}": example.raw.numpy() for i, example in enumerate(examples)}
    arrays["probabilities"] = probabilities
    write_arrays(folder / "golden.npz", arrays)
    rows = [
        {
            "input": f"input_{i}",
            "id": example.id,
            "shape": list(example.raw.shape),
            "dtype": str(example.raw.numpy().dtype),
            "label": classes[int(row.argmax())],
            "probabilities": [float(value) for value in row],
        }
        for i, (example, row) in enumerate(zip(examples, probabilities, strict=True))
    ]
    content = {"tolerance": 0.02, "classes": list(classes), "examples": rows}
    write_text(folder / "golden.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return [folder / "golden.npz", folder / "golden.json"]
