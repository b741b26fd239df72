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
from restune.exporting.deployable import Answer
from restune.exporting.raw_examples import RawExample


def tolerance(answer: Answer) -> float:
    """Return the largest difference that a reader should accept: of a probability, or of a value."""
    return 0.02 * float(answer.get_buffer("std").max()) if answer.task == "regression" else 0.02


def write_golden(
    folder: Path, examples: Sequence[RawExample], answers: NDArray[np.float32], classes: Sequence[str], answer: Answer
) -> list[Path]:
    """Write ``golden.npz`` (arrays) and ``golden.json`` (the same without the inputs' values, for small readers).

    The arrays are ``input_0``, ``input_1``, ... and ``probabilities`` (of regression ``values``) ``[n, classes]``.
    """
    arrays: dict[str, NDArray[Any]] = {f"input_{i}": example.raw.numpy() for i, example in enumerate(examples)}
    arrays[answer.name] = answers
    write_arrays(folder / "golden.npz", arrays)
    rows = [
        {
            "input": f"input_{i}",
            "id": example.id,
            "shape": list(example.raw.shape),
            "dtype": str(example.raw.numpy().dtype),
            **({"label": classes[int(row.argmax())]} if answer.task == "single-label" else {}),
            answer.name: [float(value) for value in row],
        }
        for i, (example, row) in enumerate(zip(examples, answers, strict=True))
    ]
    content = {"task": answer.task, "tolerance": tolerance(answer), "classes": list(classes), "examples": rows}
    write_text(folder / "golden.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return [folder / "golden.npz", folder / "golden.json"]
