"""The columns of a table of predictions, and its rows as values, as CSV and in Arrow's form."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from restune.inference.model import Prediction

Row = tuple[Any, ...]
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What a cell begins with that a spreadsheet computes."""
_NEEDS_QUOTES = re.compile(r'[",\r\n]|^\s|\s$')


@dataclass(frozen=True, kw_only=True)
class PredictionRows:
    """Turn predictions into the rows of a table.

    Args:
        task: of the model.
        classes: its classes, labels or numbers.
        topk: of single-label models, how many classes have columns.
        more: of single-label models, which of ``abstained``, ``prediction_set``, ``novel`` and ``novelty`` are known.

    >>> from restune.inference.model import Prediction
    >>> rows = PredictionRows(task="single-label", classes=("cat", "dog"), topk=2)
    >>> rows.names
    ('input', 'label', 'probability', 'error', 'label_2', 'probability_2')
    >>> cat = Prediction(input="a.jpg", label="cat", probability=0.75, top=(("cat", 0.75), ("dog", 0.25)))
    >>> csv_line(rows.row(cat))
    'a.jpg,cat,0.75,,dog,0.25\\n'
    """

    task: str
    classes: tuple[str, ...]
    topk: int = 1
    more: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(name for name, _ in self.columns())

    def columns(self) -> list[tuple[str, str]]:
        """Return the columns: names, and ``text``, ``number`` or ``flag``."""
        texts, numbers = ("input", "text"), [(name, "number") for name in self._value_names()]
        if self.task == "multi-label":
            return [texts, ("labels", "text"), *numbers, ("error", "text")]
        if self.task == "regression":
            return [texts, *numbers, ("error", "text")]
        kinds = {"abstained": "flag", "prediction_set": "text", "novel": "flag", "novelty": "number"}
        others = [((f"label_{k}", "text"), (f"probability_{k}", "number")) for k in range(2, self._shown() + 1)]
        return [
            texts, ("label", "text"), ("probability", "number"), ("error", "text"),
            *(column for pair in others for column in pair),
            *((name, kinds[name]) for name in self.more),
        ]  # fmt: skip

    def row(self, prediction: Prediction) -> Row:
        """Return the values of a prediction's row; None where there is none."""
        if self.task == "single-label":
            pairs: list[Any] = [value for pair in prediction.top[1 : self._shown()] for value in pair]
            pairs += [None] * (2 * (self._shown() - 1) - len(pairs))
            more = (_value(prediction, name) for name in self.more)
            return (prediction.input, prediction.label, prediction.probability, prediction.error, *pairs, *more)
        is_labels = self.task == "multi-label"
        known = prediction.probabilities if is_labels else prediction.values
        numbers = [None if known is None else known[name] for name in self.classes]
        labels = [None if prediction.labels is None else "|".join(prediction.labels)] if is_labels else []
        return (prediction.input, *labels, *numbers, prediction.error)

    def _shown(self) -> int:
        return max(1, min(self.topk, len(self.classes)))

    def _value_names(self) -> list[str]:
        """Name the columns of labels' probabilities or of numbers; no two columns have one name."""
        if self.task == "multi-label":
            return [f"probability_{name}" for name in self.classes]
        return [f"value_{name}" if name in ("input", "error") else name for name in self.classes]


def _value(prediction: Prediction, name: str) -> Any:
    if name == "prediction_set":
        return None if prediction.prediction_set is None else "|".join(prediction.prediction_set)
    return getattr(prediction, name)


def csv_line(values: Iterable[Any]) -> str:
    """Return values as one line of CSV, on which a spreadsheet computes nothing.

    Texts that a spreadsheet would take for a formula get an apostrophe in front.

    >>> print(csv_line(["=1+1", "-1", -0.5, True, None, 'a "b", c']), end="")
    '=1+1,-1,-0.5,true,,"a ""b"", c"
    """
    return ",".join(map(_cell, values)) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    text = str(value)
    if text.startswith(_FORMULA) and not _is_number(text):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text.isascii()
    except ValueError:
        return False


def csv_bytes(rows: Iterable[Sequence[Any]]) -> bytes:
    """Return rows as UTF-8 CSV; bytes of file names that are not UTF-8 become escapes."""
    return "".join(map(csv_line, rows)).encode("utf-8", "backslashreplace")


def arrow_schema(columns: Iterable[tuple[str, str]]) -> pa.Schema:
    """Return the columns as Arrow's schema."""
    import pyarrow as pa

    types = {"text": pa.string(), "number": pa.float64(), "flag": pa.bool_()}
    return pa.schema([(_printable(name), types[kind]) for name, kind in columns])


def arrow_batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as one of Arrow's record batches."""
    import pyarrow as pa

    values = [list(map(_printable, column)) for column in zip(*rows, strict=True)]
    return pa.record_batch([pa.array(v, f.type) for v, f in zip(values, schema, strict=True)], schema=schema)


def _printable(value: Any) -> Any:
    """Return a text with escapes for bytes that are not UTF-8; anything else as it is."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
