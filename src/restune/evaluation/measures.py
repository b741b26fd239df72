"""All scores of an evaluation with their 95% intervals, computed from logits and targets when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.evaluation.abstention import CertainFirst, Selective, threshold_for
from restune.evaluation.calibration import Reliability
from restune.evaluation.conformal import SetScores, set_scores
from restune.evaluation.intervals import (
    Interval,
    mean_of_proportions,
    percentile_interval,
    resampled,
    wilson_bounds,
)
from restune.evaluation.items import ItemScores, item_scores, true_ranks
from restune.evaluation.metrics import Agreement, f1_interval, wilson_interval
from restune.evaluation.ranking import RankScore, rank_scores
from restune.weights.calibration import Calibration

_TOPK = (2, 3, 5, 10)


@dataclass(frozen=True, eq=False)
class Measures:
    """The scores of an evaluation beyond accuracy.

    Args:
        logits: of items ``[N, C]``.
        targets: class indices ``[N]``.
        predicted: most probable classes ``[N]``.
        calibration: of the model; None: its probabilities are those of its logits.
        coverage: wanted share of prediction sets that contain the true class.
        target_precision: wanted share of correct answers where the model abstains from others.
    """

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    calibration: Calibration | None
    coverage: float
    target_precision: float

    @property
    def temperature(self) -> float:
        """By which logits are divided; 1 without calibration."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    @cached_property
    def items(self) -> ItemScores:
        """Scores of each item's probabilities."""
        return item_scores(self.logits, self.targets, self.temperature)

    @cached_property
    def uncalibrated(self) -> ItemScores:
        """The same at temperature 1."""
        return self.items if self.temperature == 1.0 else item_scores(self.logits, self.targets)

    @cached_property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether each item's most probable class is the true one ``[N]``."""
        return np.asarray(self.targets == self.predicted)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of each item's true class, from 0 ``[N]``."""
        return true_ranks(self.logits, self.targets)

    @cached_property
    def reliability(self) -> Reliability:
        """Accuracy by probability."""
        return Reliability.of(self.items.confidence, self.is_right)

    @cached_property
    def reliability_before(self) -> Reliability:
        """Accuracy by probability at temperature 1."""
        return Reliability.of(self.uncalibrated.confidence, self.is_right)

    @cached_property
    def certain_first(self) -> CertainFirst:
        """Items in falling order of probability."""
        return CertainFirst(self.items.confidence, self.is_right)

    @cached_property
    def ranking(self) -> tuple[RankScore, RankScore]:
        """AUROC and average precision of each class against the rest."""
        return rank_scores(self.logits, self.targets, self.temperature)

    @cached_property
    def agreement(self) -> Agreement:
        """Macro and weighted F1, Matthews' correlation, Cohen's kappa."""
        return self._agreement_of(np.ones((1, len(self.targets))))

    @cached_property
    def aurc(self) -> float:
        """Area under the risk-coverage curve: mean share of wrong items among the most certain ones."""
        return float(self.certain_first.areas(np.ones((1, len(self.targets))))[0])

    @cached_property
    def values(self) -> Mapping[str, float | None]:
        """The scores by name; None where one is undefined."""
        agreement, (auroc, average) = self.agreement, self.ranking
        return {
            "accuracy": float(self.is_right.mean()),
            **{f"top{k}": float((self.ranks < k).mean()) for k in self.topk},
            "balanced_accuracy": float(self._recalls[0].mean()),
            "macro_f1": float(agreement.macro_f1[0]),
            "weighted_f1": float(agreement.weighted_f1[0]),
            "mcc": float(agreement.mcc[0]),
            "kappa": _known(agreement.kappa[0]),
            "auroc": auroc.macro,
            "average_precision": average.macro,
            "nll": float(self.items.nll.mean()),
            "brier": float(self.items.brier.mean()),
            "ece": self.reliability.ece,
            "aurc": self.aurc,
        }

    @cached_property
    def intervals(self) -> Mapping[str, Interval | None]:
        """The 95% intervals of `values`; see docs/evaluate.md for how each is computed."""
        n, (auroc, average) = len(self.targets), self.ranking
        drawn, stratified = self._resamples
        values = self.values
        hits = int(self.is_right.sum())
        found: dict[str, Interval | None] = {
            "accuracy": wilson_interval(hits, n),
            **{f"top{k}": wilson_interval(int((self.ranks < k).sum()), n) for k in self.topk},
            "balanced_accuracy": mean_of_proportions(*self._recalls),
            "macro_f1": percentile_interval(stratified[:, 0]),
            **{name: _percentiles(drawn[:, place]) for place, name in enumerate(_RESAMPLED)},
            "auroc": auroc.interval,
            "average_precision": average.interval,
            "ece": self.reliability.interval,
        }
        if hits in (0, n):  # resampling shows no error, or no hit, where there is none
            low, high = wilson_interval(hits, n)
            for name in ("macro_f1", "weighted_f1", "mcc", "kappa"):
                found[name] = None if values[name] is None else _reaching(values[name], low if hits else high)
        return {name: found[name] for name in values}

    @property
    def topk(self) -> tuple[int, ...]:
        """The k of the top-k accuracies: those below the number of classes."""
        return tuple(k for k in _TOPK if k < self.logits.shape[1])

    def selective(self) -> tuple[Selective, Selective] | None:
        """Return the items answered at the wanted precision: of validation, and here. None without a threshold."""
        if self.calibration is None:
            return None
        curve, n = self.calibration.abstention, self.calibration.n
        place = threshold_for(curve, self.target_precision, n)
        if place is None:
            return None
        threshold = curve.thresholds[place]
        validation = Selective(threshold, n, curve.answered[place], curve.correct[place])
        return validation, Selective.at(threshold, self.items.confidence, self.is_right)

    def sets(self, *, class_conditional: bool = False) -> SetScores | None:
        """Compare the prediction sets of the wanted coverage with the true classes. None without thresholds."""
        if self.calibration is None:
            return None
        conformal = self.calibration.conformal
        if class_conditional and conformal.class_conditional is None:
            return None
        thresholds = conformal.at(self.coverage, class_conditional=class_conditional)
        return set_scores(self.logits, self.targets, thresholds, self.temperature)

    def class_dict(self, place: int, hits: int, n: int, predicted: int) -> dict[str, Any]:
        """Return a class's AUROC and average precision, and intervals of its scores, for JSON."""
        more: dict[str, Any] = {
            "precision_interval": list(wilson_interval(hits, predicted)),
            "f1_interval": list(f1_interval(hits, n, predicted)),
        }
        for name, score in zip(("auroc", "average_precision"), self.ranking, strict=True):
            value = _known(score.value[place])
            more[name] = value
            more[f"{name}_interval"] = None if value is None else [float(score.low[place]), float(score.high[place])]
        return more

    def to_dict(self) -> dict[str, Any]:
        """Return the keys that ``restune evaluate --json`` adds to accuracy and counts."""
        values, intervals = self.values, self.intervals
        conformal = self._conformal_dict()
        return {
            "topk": {str(k): values[f"top{k}"] for k in self.topk},
            **{name: values[name] for name in values if name != "accuracy" and not name.startswith("top")},
            "intervals": {name: None if found is None else list(found) for name, found in intervals.items()},
            "calibration": self._calibration_dict(),
            "abstention": self._abstention_dict(),
            **({} if conformal is None else {"conformal": conformal}),
        }

    def _calibration_dict(self) -> dict[str, Any]:
        sides = {"before": (self.uncalibrated, self.reliability_before)}
        if self.calibration is not None:
            sides["after"] = (self.items, self.reliability)
        scores = {
            side: {
                "nll": float(items.nll.mean()),
                "brier": float(items.brier.mean()),
                "ece": reliability.ece,
                "ece_debiased": reliability.ece_debiased,
                "rms_debiased": reliability.rms_debiased,
            }
            for side, (items, reliability) in sides.items()
        }
        return {
            "temperature": None if self.calibration is None else self.calibration.temperature,
            "n": None if self.calibration is None else self.calibration.n,
            **scores,
            "reliability": {side: reliability.diagram() for side, (_, reliability) in sides.items()},
        }

    def _abstention_dict(self) -> dict[str, Any]:
        selective = self.selective()
        chosen = None if selective is None else {"validation": selective[0].to_dict(), "here": selective[1].to_dict()}
        return {
            "aurc": self.aurc,
            "curve": self.certain_first.curve(),
            "target_precision": self.target_precision,
            "threshold": None if selective is None else selective[0].threshold,
            **(chosen or {}),
        }

    def _conformal_dict(self) -> dict[str, Any] | None:
        marginal, by_class = self.sets(), self.sets(class_conditional=True)
        if marginal is None or self.calibration is None:
            return None
        thresholds = self.calibration.conformal
        found: dict[str, Any] = {
            "coverage_wanted": self.coverage,
            "n": self.calibration.n,
            "marginal": {"threshold": thresholds.at(self.coverage), **marginal.to_dict()},
        }
        if by_class is not None:
            found["class_conditional"] = {**by_class.to_dict(), "classes_in_every_set": self.unbounded_classes()}
        return found

    def unbounded_classes(self) -> int:
        """Number of classes with too few validation items for a threshold of their own: they are in every set."""
        if self.calibration is None or self.calibration.conformal.class_conditional is None:
            return 0
        thresholds = self.calibration.conformal.at(self.coverage, class_conditional=True)
        return sum(threshold == 0 for threshold in thresholds) if isinstance(thresholds, tuple) else 0

    @cached_property
    def _recalls(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Recall of each class that has items, with its Wilson limits."""
        counts = np.bincount(self.targets)
        hits = np.bincount(self.targets, weights=self.is_right)[counts > 0]
        n = counts[counts > 0].astype(np.float64)
        return hits / n, *wilson_bounds(hits / n, n)

    @cached_property
    def _resamples(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores of bootstrap resamples: of all items ``[B, K]``, and of as many items of each class ``[B, 1]``."""
        means = np.stack([self.items.nll, self.items.brier], axis=1)

        def scores(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            agreement = self._agreement_of(weights)
            total = weights.sum(axis=1, keepdims=True)
            columns = (agreement.weighted_f1, agreement.mcc, agreement.kappa, *(weights @ means / total).T)
            return np.stack([*columns, self.certain_first.areas(weights)], axis=1)

        def macro(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return self._agreement_of(weights).macro_f1[:, None]

        n = len(self.targets)
        return resampled(n, scores, "items"), resampled(n, macro, "classes", strata=self.targets)

    def _agreement_of(self, weights: NDArray[np.float64]) -> Agreement:
        """Compute the agreement of resamples; counts are of the classes that occur, which may be few of very many."""
        hits = weights * self.is_right
        targets, predicted, count = self._occurring
        actual = _sums(weights, targets, count)
        return Agreement.of(_sums(hits, targets, count), actual, _sums(weights, predicted, count))

    @cached_property
    def _occurring(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """True and predicted classes, renumbered without those that do not occur, and how many do."""
        names, numbers = np.unique(np.concatenate([self.targets, self.predicted]), return_inverse=True)
        return numbers[: len(self.targets)], numbers[len(self.targets) :], len(names)


_RESAMPLED = ("weighted_f1", "mcc", "kappa", "nll", "brier", "aurc")


def _sums(weights: NDArray[np.float64], classes: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Add up weights ``[B, N]`` by class ``[B, count]``."""
    rows = len(weights)
    places = classes + np.arange(rows)[:, None] * count
    sums: NDArray[np.float64] = np.bincount(places.ravel(), weights.ravel(), rows * count).astype(np.float64)
    return sums.reshape(rows, count)


def _percentiles(draws: NDArray[np.float64]) -> Interval | None:
    return None if np.isnan(draws).all() else percentile_interval(draws)


def _reaching(value: float | None, limit: float) -> Interval:
    """Return the interval from a perfect, or worst, score to a limit."""
    assert value is not None
    return min(value, limit), max(value, limit)


def _known(value: float | np.floating[Any]) -> float | None:
    return None if np.isnan(value) else float(value)
