"""The evaluation of a multi-label model: probabilities of every label, and the scores computed from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.data.targets import Outputs
from restune.evaluation.label_metrics import (
    Ranking,
    auroc,
    average_precision,
    best_thresholds,
    bootstrap,
    f1_of,
)
from restune.evaluation.metrics import wilson_interval
from restune.evaluation.task_evaluation import json_number, json_pair, load_rows, save_rows, skipped_rows


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """One label's scores; None where they are not defined.

    Args:
        n: number of items that have the label.
        predicted: number of items that are predicted to have it.
        threshold: probability from which it is predicted.
        average_precision, average_precision_interval: over all thresholds, with its 95% bootstrap interval.
        auroc: area under the ROC curve.
        precision, recall, f1: at the threshold.
    """

    n: int
    predicted: int
    threshold: float
    average_precision: float | None
    average_precision_interval: tuple[float | None, float | None]
    auroc: float | None
    precision: float | None
    recall: float | None
    f1: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**self.__dict__, "average_precision_interval": list(self.average_precision_interval)}


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiLabelEvaluation:
    """The scores of a multi-label model on a data set.

    Args:
        classes: names of the labels, in the order of the logits.
        ids: of the items, in order.
        targets: 0 or 1 ``[N, C]``.
        logits: float32 ``[N, C]``; the logarithm of a label's odds.
        thresholds: probability from which each label is predicted ``[C]``.
        skipped: items that could not be read, with the reason.
        model, data: source of the model and of the data.
        fingerprint: of the data.
        seconds: time taken, including reading.
        thresholds_fitted: whether the thresholds were chosen on these items, whose F1 is then optimistic.
    """

    task = "multi-label"
    metric = "map"

    classes: tuple[str, ...]
    ids: tuple[str, ...] = field(repr=False)
    targets: NDArray[np.float32] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    thresholds: tuple[float, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    model: str = ""
    data: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    thresholds_fitted: bool = False

    def __repr__(self) -> str:
        low, high = self.map_interval
        return (
            f"MultiLabelEvaluation(mAP {self.map:.2%} (95% interval {low:.2%} to {high:.2%}), n = {self.n}, "
            f"{len(self.classes)} labels)"
        )

    @classmethod
    def of(cls, classes: tuple[str, ...], rows: dict[str, Any], outputs: Outputs, **about: Any) -> MultiLabelEvaluation:
        """Build the evaluation of collected rows (`TaskRows.fields`) with the thresholds of `outputs`."""
        thresholds = tuple(outputs.threshold_row(len(classes)).tolist())
        return cls(classes=classes, **rows, thresholds=thresholds, **about)

    @property
    def n(self) -> int:
        """Number of items scored."""
        return len(self.targets)

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Probability of each label ``[N, C]``."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.logits, -80, 80))), np.float32)

    @cached_property
    def predicted(self) -> NDArray[np.bool_]:
        """Whether each label is predicted ``[N, C]``."""
        return np.asarray(self.probabilities >= np.array(self.thresholds, np.float32))

    @cached_property
    def is_true(self) -> NDArray[np.bool_]:
        """Whether each item has each label ``[N, C]``."""
        return np.asarray(self.targets > 0.5)

    def with_best_thresholds(self) -> MultiLabelEvaluation:
        """Return the evaluation with thresholds chosen on its items: the highest F1 of each label."""
        return replace(self, thresholds=best_thresholds(self.probabilities, self.is_true), thresholds_fitted=True)

    @cached_property
    def _rankings(self) -> list[Ranking]:
        return [Ranking.of(column) for column in np.asarray(self.logits).T]

    @cached_property
    def average_precisions(self) -> NDArray[np.float64]:
        """Average precision of each label ``[C]``; NaN for labels that no item has."""
        return np.asarray(self._over_labels(average_precision, None)[0])

    @property
    def map(self) -> float:
        """Mean average precision over the labels that some item has."""
        return _mean(self.average_precisions)

    @property
    def map_interval(self) -> tuple[float, float]:
        """95% bootstrap interval of the mean average precision."""
        low, high = self._precision_intervals[:, -1].tolist()
        return low, high

    @cached_property
    def _precision_intervals(self) -> NDArray[np.float64]:
        """Bootstrap intervals of each label's average precision and, last, of their mean ``[2, C + 1]``."""

        def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            each = self._over_labels(average_precision, weights)
            known = np.isfinite(each)
            mean = np.where(known, each, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
            return np.column_stack([each, np.where(known.any(axis=1), mean, np.nan)])

        return np.clip(bootstrap(statistic, self.n, len(self.classes)), 0, 1)

    def _over_labels(self, measure: Any, weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        columns = [measure(rank, self.is_true[:, c], weights) for c, rank in enumerate(self._rankings)]
        return np.stack(columns, axis=1)

    @cached_property
    def _counts(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Per label: items predicted right, items that have it, items predicted to have it."""
        pairs = (self.predicted & self.is_true, self.is_true, self.predicted)
        hits, actual, predicted = (np.asarray(one.sum(axis=0), np.float64) for one in pairs)
        return hits, actual, predicted

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the labels that some item has or is predicted to have."""
        hits, actual, predicted = self._counts
        used = actual + predicted > 0
        return float(f1_of(hits, actual, predicted)[used].mean()) if used.any() else float("nan")

    @property
    def micro_f1(self) -> float:
        """F1 over all pairs of item and label."""
        return float(f1_of(*(np.atleast_1d(one.sum()) for one in self._counts))[0])

    @cached_property
    def f1_intervals(self) -> dict[str, tuple[float, float]]:
        """95% bootstrap intervals of ``macro_f1`` and ``micro_f1``."""
        pairs = [one.astype(np.float64) for one in (self.predicted & self.is_true, self.is_true, self.predicted)]

        def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            hits, actual, predicted = (weights @ one for one in pairs)
            used = actual + predicted > 0
            macro = (f1_of(hits, actual, predicted) * used).sum(axis=1) / np.maximum(used.sum(axis=1), 1)
            micro = f1_of(*(one.sum(axis=1) for one in (hits, actual, predicted)))
            return np.column_stack([macro, micro])

        low, high = np.clip(bootstrap(statistic, self.n, len(self.classes)), 0, 1).tolist()
        return {"macro_f1": (low[0], high[0]), "micro_f1": (low[1], high[1])}

    @property
    def subset_correct(self) -> int:
        """Number of items whose labels are all predicted right."""
        return int((self.predicted == self.is_true).all(axis=1).sum())

    @property
    def subset_accuracy(self) -> float:
        """Share of items whose labels are all predicted right."""
        return self.subset_correct / self.n

    @property
    def subset_interval(self) -> tuple[float, float]:
        """95% Wilson interval of the subset accuracy."""
        return wilson_interval(self.subset_correct, self.n)

    @property
    def hamming_loss(self) -> float:
        """Share of all pairs of item and label that are predicted wrong."""
        return float((self.predicted != self.is_true).mean())

    @cached_property
    def per_label(self) -> dict[str, LabelScores]:
        """Scores of each label by name."""
        hits, actual, predicted = self._counts
        f1, areas = f1_of(hits, actual, predicted), self._over_labels(auroc, None)[0]
        return {
            name: LabelScores(
                n=int(actual[c]),
                predicted=int(predicted[c]),
                threshold=self.thresholds[c],
                average_precision=json_number(self.average_precisions[c]),
                average_precision_interval=(
                    json_number(self._precision_intervals[0, c]),
                    json_number(self._precision_intervals[1, c]),
                ),
                auroc=json_number(areas[c]),
                precision=float(hits[c] / predicted[c]) if predicted[c] else None,
                recall=float(hits[c] / actual[c]) if actual[c] else None,
                f1=float(f1[c]),
            )
            for c, name in enumerate(self.classes)
        }

    def summary(self) -> dict[str, Any]:
        """Return a split's part of result.json."""
        return {
            "task": self.task,
            "metric": self.metric,
            "map": json_number(self.map),
            "n": self.n,
            "interval": json_pair(*self.map_interval),
            "macro_f1": json_number(self.macro_f1),
            "micro_f1": json_number(self.micro_f1),
            "subset_accuracy": self.subset_accuracy,
            "hamming_loss": self.hamming_loss,
            "fingerprint": self.fingerprint,
            **({"skipped": skipped_rows(self.skipped)} if self.skipped else {}),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune evaluate --json`` prints."""
        return {
            **self.summary(),
            "macro_f1_interval": json_pair(*self.f1_intervals["macro_f1"]),
            "micro_f1_interval": json_pair(*self.f1_intervals["micro_f1"]),
            "subset_accuracy_interval": list(self.subset_interval),
            "classes": list(self.classes),
            "thresholds": dict(zip(self.classes, self.thresholds, strict=True)),
            "per_label": {name: scores.to_dict() for name, scores in self.per_label.items()},
            "skipped": skipped_rows(self.skipped),
            "model": self.model,
            "data": self.data,
            "seconds": round(self.seconds, 3),
        }

    def save(self, path: str | Path) -> Path:
        """Write ids, targets, logits and names as an .npz; `load_evaluation` reads it. Raises UserError."""
        more = {"task": self.task, "thresholds": self.thresholds, "thresholds_fitted": self.thresholds_fitted}
        return save_rows(path, self, more)

    @classmethod
    def load(cls, path: Path, about: dict[str, Any]) -> MultiLabelEvaluation:
        """Read what `save` wrote, given its description."""
        fields = load_rows(path, about)
        return cls(**fields, thresholds=tuple(about["thresholds"]), thresholds_fitted=about["thresholds_fitted"])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
