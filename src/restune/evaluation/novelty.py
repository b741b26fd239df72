"""Novelty: set the threshold on validation items, and measure how well unknown items are told from known ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.streams import generator
from restune.evaluation.logits import chunks
from restune.evaluation.metrics import wilson_interval
from restune.weights.novelty import Novelty, normalized

REFERENCE_ITEMS = 2_000
"""Maximum number of training items whose embeddings a bundle holds."""
_REFERENCE_BYTES = 8 * 2**20
FALSE_ALARMS = 0.05
"""The wanted false-alarm rate."""
_MOST_NEIGHBOURS = 5
_Z = 1.959964
_FOLDS = 5
_FEWEST = 25
"""Validation items below which no threshold is set: 19 are the fewest that can promise 5%, in four folds of five."""


def reference_positions(targets: NDArray[np.integer[Any]], features: int, seed: int) -> NDArray[np.int64]:
    """Choose the training items whose embeddings a bundle holds: about the same number of each class.

    Args:
        targets: of the training items ``[N]``.
        features: size of an embedding, which limits their number.
    """
    most = max(1, min(REFERENCE_ITEMS, _REFERENCE_BYTES // (2 * features)))
    order = generator(seed, "novelty reference").permutation(len(targets))
    # The rank of an item within its class; taking the lowest ranks first fills all classes evenly.
    by_class = order[np.argsort(targets[order], kind="stable")]
    counts = np.bincount(targets)
    ranks = np.arange(len(targets)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[np.argsort(ranks, kind="stable")[:most]])


def fit_novelty(
    reference: NDArray[np.float32], classes: int, held_out: NDArray[np.float32], rate: float = FALSE_ALARMS
) -> Novelty | None:
    """Set the threshold that calls a share `rate` of items like the held-out ones novel.

    Args:
        reference: embeddings of training items ``[M, F]``.
        classes: number of their classes.
        held_out: embeddings of validation items ``[N, F]``.

    Returns None for too few validation items. The threshold is the conformal quantile, so that the expected rate on
    items like these is at most `rate`; the measured rate is of thresholds set without the items they are measured on.
    """
    n = len(held_out)
    if n < _FEWEST or not len(reference):
        return None
    k = min(_MOST_NEIGHBOURS, max(1, len(reference) // (20 * classes)))
    table = normalized(torch.from_numpy(np.array(reference))).half()
    novelty = Novelty(reference=table, k=k, threshold=2.0, promised=rate, false_alarms=0, n=n)
    scores = novelty_scores(novelty, held_out)
    folds = np.arange(n) % _FOLDS
    alarms = [
        int((scores[folds == fold] > conformal_quantile(scores[folds != fold], rate)).sum()) for fold in range(_FOLDS)
    ]
    return replace(novelty, threshold=conformal_quantile(scores, rate), false_alarms=sum(alarms))


def conformal_quantile(scores: NDArray[np.floating[Any]], rate: float) -> float:
    """Return the smallest score above which a new one lies with a probability of at most `rate`.

    Source: Vovk et al. 2005, "Algorithmic Learning in a Random World": rank ``ceil((n + 1)(1 - rate))`` of n.
    """
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(scores)[min(rank, len(scores)) - 1])


def novelty_scores(novelty: Novelty, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the novelty score of each item from its embedding, in parts of bounded size."""
    parts = [novelty.scores(torch.from_numpy(np.array(part))) for part in chunks(embeddings)]
    return torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True)
class Auroc:
    """The probability that an unknown item has the higher score than a known one, ties counting half.

    Args:
        value: the area under the ROC curve.
        interval: 95%, by Newcombe's method 5 (2006), which is not empty where the value is 1.
    """

    value: float
    interval: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the value and its interval."""
        return {"value": self.value, "interval": list(self.interval)}


@dataclass(frozen=True, kw_only=True, eq=False)
class UnknownItems:
    """Items of none of the model's classes, and how well they are told from the evaluation's.

    Args:
        data: their source.
        detected: number of items that are called novel, of `n`.
        novelty, max_softmax: AUROC of the novelty score, and of one minus the largest probability.
        difference: of the two, and its 95% interval by DeLong's paired method.
        skipped: number of items that could not be read.
    """

    data: str
    n: int
    detected: int
    novelty: Auroc
    max_softmax: Auroc
    difference: tuple[float, float, float]
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the object in the evaluation's JSON."""
        difference, low, high = self.difference
        return {
            "data": self.data,
            "n": self.n,
            "skipped": self.skipped,
            "detected": self.detected / self.n,
            "interval": list(wilson_interval(self.detected, self.n)),
            "auroc": self.novelty.to_dict(),
            "max_softmax_auroc": self.max_softmax.to_dict(),
            "difference": {"value": difference, "interval": [low, high]},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class NoveltyResult:
    """The novelty of an evaluation's items, all of which belong to the model's classes.

    Args:
        scores: one per item ``[N]``.
        model: the threshold, and what validation promised.
        unknown: items of other classes, if there are any.
    """

    scores: NDArray[np.float32] = field(repr=False)
    model: Novelty
    unknown: UnknownItems | None = None

    @property
    def false_alarms(self) -> int:
        """Number of items that are called novel."""
        return int((self.scores > self.model.threshold).sum())

    @property
    def rate(self) -> float:
        """Share of items that are called novel."""
        return self.false_alarms / len(self.scores)

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% Wilson interval."""
        return wilson_interval(self.false_alarms, len(self.scores))

    def to_dict(self) -> dict[str, Any]:
        """Return the object ``novelty`` of ``restune evaluate --json``."""
        model = self.model
        return {
            "false_alarm_rate": self.rate,
            "interval": list(self.interval),
            "n": len(self.scores),
            "promised": model.promised,
            "validation": novelty_facts(model),
            "k": model.k,
            "threshold": model.threshold,
            **({} if self.unknown is None else {"unknown": self.unknown.to_dict()}),
        }


def novelty_facts(model: Novelty) -> dict[str, Any]:
    """Return the false-alarm rate that was measured on validation items, with its interval."""
    interval = wilson_interval(model.false_alarms, model.n)
    return {"false_alarm_rate": model.false_alarms / model.n, "interval": list(interval), "n": model.n}


def compare_with_unknown(
    known: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]],
    unknown: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]],
    threshold: float,
    data: str,
    skipped: int = 0,
) -> UnknownItems:
    """Measure how well scores tell unknown items from known ones.

    Args:
        known, unknown: novelty scores and one minus the largest probabilities, of each ``[N]``.
    """
    placed = [_placements(*scores) for scores in zip(known, unknown, strict=True)]
    values = [float(of_unknown.mean()) for of_unknown, _ in placed]
    (unknown_a, known_a), (unknown_b, known_b) = placed
    m, n = len(unknown_a), len(known_a)
    variance = _variance(unknown_a - unknown_b) / m + _variance(known_a - known_b) / n
    difference, margin = values[0] - values[1], _Z * math.sqrt(variance)
    return UnknownItems(
        data=data,
        n=m,
        detected=int((unknown[0] > threshold).sum()),
        novelty=Auroc(value=values[0], interval=auroc_interval(values[0], m, n)),
        max_softmax=Auroc(value=values[1], interval=auroc_interval(values[1], m, n)),
        difference=(difference, max(-1.0, difference - margin), min(1.0, difference + margin)),
        skipped=skipped,
    )


def auroc_interval(value: float, m: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of an AUROC from m and n items.

    Source: Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part
    2", method 5: the values whose distance from the estimate is 1.96 of their own standard errors.
    """

    def is_near(candidate: float) -> bool:
        pairs = (m + n) / 2 - 1
        spread = 1 + pairs * ((1 - candidate) / (2 - candidate) + candidate / (1 + candidate))
        return (candidate - value) ** 2 <= _Z**2 * candidate * (1 - candidate) * spread / (m * n)

    return _boundary(is_near, value, 0.0), _boundary(is_near, value, 1.0)


def _boundary(is_near: Callable[[float], bool], inside: float, outside: float) -> float:
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if is_near(middle) else (inside, middle)
    return inside


def _placements(
    known: NDArray[np.floating[Any]], unknown: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each unknown item's share of known items below it, and each known item's of unknown ones above it."""
    return _share_below(unknown, known), 1 - _share_below(known, unknown)


def _share_below(values: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the share of `others` below each value, equal ones counting half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return below / (2 * len(ordered))


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
