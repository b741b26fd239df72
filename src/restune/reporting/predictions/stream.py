"""Predictions that are computed lazily, by a model or by an export, and the columns of their table; without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restune.data.preprocess import Preprocess
from restune.exported.predict import predict_export
from restune.inference.prediction import Prediction
from restune.reporting.predictions.rows import PredictionRows


@dataclass(frozen=True, kw_only=True)
class PredictionStream:
    """Predictions that are computed lazily.

    Args:
        classes: the model's classes, in the order of its logits.
        predictions: one per input, in order; computed when they are needed.
        task: of the model.
        knows_novelty: whether the model tells inputs that are unlike its training data.
        preprocess: of the model.
        digest: hashes everything else that the predictions depend on.
    """

    classes: tuple[str, ...]
    predictions: Iterator[Prediction]
    task: str
    knows_novelty: bool
    preprocess: Preprocess
    digest: Callable[[], str]

    def columns(self, topk: int = 1, *, threshold: float | None, coverage: float | None) -> PredictionRows:
        """Return the columns of a table of these predictions; see `AnswerOptions`."""
        known = {"abstained": threshold is not None, "prediction_set": coverage is not None}
        known |= dict.fromkeys(("novel", "novelty"), self.knows_novelty)
        more = tuple(name for name, is_known in known.items() if is_known)
        return PredictionRows(task=self.task, classes=self.classes, topk=topk, more=more)


def stream_export(model: str | Path, inputs: Any, **options: Any) -> PredictionStream:
    """Predict lazily with an export; see `exported.predict.predict_export`. Raises UserError."""
    export, predictions = predict_export(model, inputs, **options)
    return PredictionStream(
        classes=export.info.classes,
        predictions=predictions,
        task=export.info.task,
        knows_novelty=export.info.novelty_threshold is not None,
        preprocess=export.info.preprocess,
        digest=export.digest,
    )
