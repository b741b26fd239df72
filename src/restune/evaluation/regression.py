"""The evaluation of a regression model: predicted numbers of every item, and the scores computed from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.data.targets import Outputs, TargetScale
from restune.evaluation.label_metrics import bootstrap, regression_scores
from restune.evaluation.task_evaluation import json_number, json_pair, load_rows, save_rows, skipped_rows

_METRICS = ("mae", "rmse", "r2")
_BOUNDS = np.array([[0, 0, -np.inf], [np.inf, np.inf, 1]])[..., None]
"""Least and greatest value of each metric ``[2, 3, 1]``."""


@dataclass(frozen=True, kw_only=True)
class TargetScores:
    """One number's scores, in its own unit.

    Args:
        mae: mean absolute error.
        rmse: root of the mean squared error.
        r2: share of the variance that is explained; None for a constant target.
        intervals: 95% bootstrap interval of each of these.
        baseline: ``mae`` and ``rmse`` of predicting the mean of the training items for every item.
    """

    mae: float
    rmse: float
    r2: float | None
    intervals: dict[str, tuple[float | None, float | None]]
    baseline: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**self.__dict__, "intervals": {name: list(pair) for name, pair in self.intervals.items()}}


@dataclass(frozen=True, kw_only=True, eq=False)
class RegressionEvaluation:
    """The scores of a regression model on a data set.

    Args:
        classes: names of the numbers, in the order of the outputs.
        ids: of the items, in order.
        targets: true numbers ``[N, C]``.
        logits: the network's outputs, float32 ``[N, C]``, for targets of mean 0 and deviation 1.
        scale: turns outputs into numbers of the targets' units.
        skipped: items that could not be read, with the reason.
        model, data: source of the model and of the data.
        fingerprint: of the data.
        seconds: time taken, including reading.
    """

    task = "regression"

    classes: tuple[str, ...]
    ids: tuple[str, ...] = field(repr=False)
    targets: NDArray[np.float32] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    scale: TargetScale
    skipped: tuple[tuple[str, str], ...] = ()
    model: str = ""
    data: str = ""
    fingerprint: str = ""
    seconds: float = 0.0

    def __repr__(self) -> str:
        value, (low, high) = self.main
        return (
            f"RegressionEvaluation({self.metric.upper()} {value:.4g} (95% interval {low:.4g} to {high:.4g}), "
            f"n = {self.n}, {', '.join(self.classes)})"
        )

    @classmethod
    def of(cls, classes: tuple[str, ...], rows: dict[str, Any], outputs: Outputs, **about: Any) -> RegressionEvaluation:
        """Build the evaluation of collected rows (`TaskRows.fields`) with the scale of `outputs`."""
        scale = outputs.scale or TargetScale((0.0,) * len(classes), (1.0,) * len(classes))
        return cls(classes=classes, **rows, scale=scale, **about)

    @property
    def n(self) -> int:
        """Number of items scored."""
        return len(self.targets)

    @property
    def metric(self) -> str:
        """The main score: the mean absolute error of one number, the mean R2 of several, whose units may differ."""
        return "mae" if len(self.classes) == 1 else "r2"

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """Predicted numbers ``[N, C]``."""
        return self.scale.values(np.asarray(self.logits))

    @cached_property
    def _scores(self) -> dict[str, NDArray[np.float64]]:
        """Each metric of each number ``[C]``."""
        measured = regression_scores(*self._pairs)
        return {name: values[0] for name, values in measured.items()}

    @property
    def _pairs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.targets.astype(np.float64), self.values.astype(np.float64)

    @cached_property
    def _intervals(self) -> NDArray[np.float64]:
        """Bootstrap intervals of each metric, of each number and last of their mean ``[2, 3, C + 1]``."""
        targets, values = self._pairs

        def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            measured = regression_scores(targets, values, weights)
            columns = [np.column_stack([measured[name], measured[name].mean(axis=1)]) for name in _METRICS]
            return np.stack(columns, axis=1)

        return np.asarray(np.clip(bootstrap(statistic, self.n, len(self.classes)), *_BOUNDS))

    def mean(self, name: str) -> float:
        """Return ``mae``, ``rmse`` or ``r2``, averaged over the numbers."""
        return float(self._scores[name].mean())

    def mean_interval(self, name: str) -> tuple[float, float]:
        """Return the 95% bootstrap interval of `mean`."""
        low, high = self._intervals[:, _METRICS.index(name), -1].tolist()
        return low, high

    @property
    def main(self) -> tuple[float, tuple[float, float]]:
        """The main score and its 95% interval."""
        return self.mean(self.metric), self.mean_interval(self.metric)

    @property
    def mae(self) -> float:
        """Mean absolute error, averaged over the numbers."""
        return self.mean("mae")

    @property
    def rmse(self) -> float:
        """Root mean squared error, averaged over the numbers."""
        return self.mean("rmse")

    @property
    def r2(self) -> float:
        """Share of the variance that is explained, averaged over the numbers."""
        return self.mean("r2")

    @cached_property
    def per_target(self) -> dict[str, TargetScores]:
        """Scores of each number by name."""
        targets, _ = self._pairs
        baseline = regression_scores(targets, np.broadcast_to(np.array(self.scale.mean), targets.shape))
        return {
            name: TargetScores(
                mae=float(self._scores["mae"][c]),
                rmse=float(self._scores["rmse"][c]),
                r2=json_number(self._scores["r2"][c]),
                intervals={
                    metric: (json_number(self._intervals[0, place, c]), json_number(self._intervals[1, place, c]))
                    for place, metric in enumerate(_METRICS)
                },
                baseline={metric: float(baseline[metric][0, c]) for metric in ("mae", "rmse")},
            )
            for c, name in enumerate(self.classes)
        }

    def summary(self) -> dict[str, Any]:
        """Return a split's part of result.json."""
        return {
            "task": self.task,
            "metric": self.metric,
            **{name: json_number(self.mean(name)) for name in _METRICS},
            "n": self.n,
            "interval": json_pair(*self.main[1]),
            "per_target": {name: scores.to_dict() for name, scores in self.per_target.items()},
            "fingerprint": self.fingerprint,
            **({"skipped": skipped_rows(self.skipped)} if self.skipped else {}),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune evaluate --json`` prints."""
        return {
            **self.summary(),
            "classes": list(self.classes),
            "skipped": skipped_rows(self.skipped),
            "model": self.model,
            "data": self.data,
            "seconds": round(self.seconds, 3),
        }

    def save(self, path: str | Path) -> Path:
        """Write ids, targets, outputs and names as an .npz; `load_evaluation` reads it. Raises UserError."""
        return save_rows(path, self, {"task": self.task, "scale": self.scale.to_dict()})

    @classmethod
    def load(cls, path: Path, about: dict[str, Any]) -> RegressionEvaluation:
        """Read what `save` wrote, given its description."""
        return cls(**load_rows(path, about), scale=TargetScale.from_dict(about["scale"]))
