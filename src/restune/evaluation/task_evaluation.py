"""What evaluations of multi-label classification and of regression share: collecting, saving and loading."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.core.files import user_path
from restune.data.targets import Outputs
from restune.evaluation.logits import LogitsBuffer, read_array, write_arrays


class TaskRows:
    """Collects ids, target values and outputs of items, batch by batch.

    Args:
        target_values: of the data set ``[rows, C]``, by an item's target.
    """

    def __init__(self, target_values: NDArray[np.float32]) -> None:
        self._values = target_values
        self._ids: list[str] = []
        self._rows: list[int] = []
        self._logits = LogitsBuffer(target_values.shape[1])

    def add(self, ids: list[str], targets: list[int], logits: Tensor) -> None:
        """Add items: their ids, rows of the target values, and outputs ``[N, C]``."""
        self._ids.extend(ids)
        self._rows.extend(targets)
        self._logits.add(logits)

    def fields(self) -> dict[str, Any]:
        """Return the fields of an evaluation that these rows hold."""
        targets = self._values[np.array(self._rows, np.int64)]
        return {"ids": tuple(self._ids), "targets": targets, "logits": self._logits.rows()}


def save_rows(path: str | Path, evaluation: Any, more: Mapping[str, Any]) -> Path:
    """Write an evaluation as .npz without pickled objects; `load_rows` reads it. Raises UserError."""
    path = user_path(path)
    if path.suffix != ".npz":
        raise UserError("an evaluation is saved as .npz", where=str(path), fix=f"name it {path.stem}.npz")
    about = {
        "skipped": [list(pair) for pair in evaluation.skipped],
        "model": evaluation.model,
        "data": evaluation.data,
        "fingerprint": evaluation.fingerprint,
        "seconds": evaluation.seconds,
        **more,
    }
    arrays = {
        "ids": _strings(evaluation.ids),
        "targets": evaluation.targets,
        "logits": evaluation.logits,
        "classes": _strings(evaluation.classes),
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
    }
    write_arrays(path, arrays)
    return path


def load_rows(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a saved evaluation, given its description. Raises as `read_array`, and UserError."""
    logits, targets = read_array(path, "logits"), np.array(read_array(path, "targets"))
    ids, classes = (tuple(read_array(path, name).tolist()) for name in ("ids", "classes"))
    if logits.shape != targets.shape or logits.shape != (len(ids), len(classes)):
        raise UserError("the arrays of this evaluation do not fit together", where=str(path))
    return {
        "ids": ids,
        "classes": classes,
        "targets": targets,
        "logits": logits,
        "skipped": tuple((item, reason) for item, reason in about["skipped"]),
        **{name: about[name] for name in ("model", "data", "fingerprint", "seconds")},
    }


def skipped_rows(skipped: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return the items that could not be read, as JSON values."""
    return [{"item": item, "reason": reason} for item, reason in skipped]


def json_number(value: float) -> float | None:
    """Return a number for JSON: None for NaN, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def json_pair(low: float, high: float) -> list[float | None]:
    """Return an interval for JSON."""
    return [json_number(low), json_number(high)]


def outputs_of(predictor: Any) -> Outputs:
    """Return what a model's outputs mean; single-label for a model that does not say."""
    info = getattr(predictor, "info", None)
    return Outputs() if info is None else info.outputs


def _strings(values: Sequence[str]) -> NDArray[np.str_]:
    """Return names as an array; bytes that are not UTF-8 are escaped, since NumPy rejects lone surrogates."""
    return np.array([value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for value in values])
