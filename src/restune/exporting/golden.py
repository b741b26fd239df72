"""Golden files: raw inputs and the outputs that a program reading the export must compute."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from restune.core.files import write_text
from restune.data.preprocess.text import TextPreprocess
from restune.evaluation.logits import write_arrays
from restune.exporting.deployable import Answer, novelty_of_graph
from restune.exporting.raw_examples import RawExample
from restune.exporting.verify import Expected
from restune.inference.model import Model


def tolerance(answer: Answer) -> float:
    """Return the largest difference that a reader should accept: of a probability, or of a value."""
    return 0.02 * float(answer.get_buffer("std").max()) if answer.task == "regression" else 0.02


def write_golden(
    folder: Path, examples: Sequence[RawExample], expected: Expected, model: Model, answer: Answer
) -> list[Path]:
    """Write ``golden.npz`` (arrays) and ``golden.json`` (the same without the inputs' values, but with texts).

    The arrays are ``input_0``, ``input_1``, ... and ``probabilities`` (of regression ``values``) ``[n, classes]``;
    where the model knows its training data also ``novelty`` ``[n]``.
    """
    answers, scores, known = expected.answers, expected.novelty, novelty_of_graph(model)
    texts = model.preprocess.text_of if isinstance(model.preprocess, TextPreprocess) else None
    arrays: dict[str, NDArray[Any]] = {f"input_{i}": example.raw.numpy() for i, example in enumerate(examples)}
    arrays[answer.name] = answers
    if scores is not None:
        arrays["novelty"] = scores
    write_arrays(folder / "golden.npz", arrays)
    rows = [
        {
            "input": f"input_{i}",
            "id": example.id,
            **({} if texts is None else {"text": texts(example.content)}),
            "shape": list(example.raw.shape),
            "dtype": str(example.raw.numpy().dtype),
            **({"label": model.classes[int(row.argmax())]} if answer.task == "single-label" else {}),
            answer.name: [float(value) for value in row],
            **({} if scores is None else {"novelty": float(scores[i])}),
        }
        for i, (example, row) in enumerate(zip(examples, answers, strict=True))
    ]
    content = {
        "task": answer.task,
        "tolerance": tolerance(answer),
        **({} if known is None else {"novelty_threshold": known.threshold}),
        "classes": list(model.classes),
        "examples": rows,
    }
    write_text(folder / "golden.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return [folder / "golden.npz", folder / "golden.json"]
