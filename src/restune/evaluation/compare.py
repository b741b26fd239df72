"""Compare two models item by item on the same data: McNemar's test and paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.core.streams import generator
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.logits import chunks

_RESAMPLES = 2_000
_FEWEST_RESAMPLES = 500
_MOST_DRAWS = 2 * 10**8
"""Resamples times items, which limits the time for very many items."""
_LISTED = 100
"""Items that JSON lists per model."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A score of both models, and the difference with its 95% paired bootstrap interval.

    Args:
        this, other: of the model, and of the one that it is compared with.
        interval: of `this` minus `other`: percentiles over items drawn with replacement, the same for both models.
    """

    this: float
    other: float
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        """`this` minus `other`."""
        return self.this - self.other

    def to_dict(self) -> dict[str, Any]:
        """Return all values."""
        return {
            "this": self.this, "other": self.other, "difference": self.difference, "interval": list(self.interval),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same items.

    Args:
        model: source of the other model.
        n: number of items that both scored.
        only_this, only_other: ids of the items that only one of the models predicts correctly.
        both: number of items that both predict correctly.
        p_exact, p_mid: two-sided p-values of McNemar's test that both are right equally often: exact, and mid-p.
        accuracy, balanced_accuracy, nll: scores of both; a lower negative log-likelihood is better.

    Source: McNemar 1947; mid-p as recommended by Fagerland, Lydersen and Laake 2013, "The McNemar test for binary
    matched-pairs data: mid-p and asymptotic are better than exact conditional" (BMC Med. Res. Methodol. 13:91).
    """

    model: str
    n: int
    only_this: tuple[str, ...] = field(repr=False)
    only_other: tuple[str, ...] = field(repr=False)
    both: int
    p_exact: float
    p_mid: float
    accuracy: Difference
    balanced_accuracy: Difference
    nll: Difference

    def to_dict(self) -> dict[str, Any]:
        """Return the object ``against`` of ``restune evaluate --json``."""
        this, other = len(self.only_this), len(self.only_other)
        return {
            "model": self.model,
            "n": self.n,
            "both_right": self.both,
            "only_this": this,
            "only_other": other,
            "neither": self.n - self.both - this - other,
            "mcnemar": {"p_exact": self.p_exact, "p_mid": self.p_mid},
            "accuracy": self.accuracy.to_dict(),
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "nll": self.nll.to_dict(),
            "items": {"only_this": list(self.only_this[:_LISTED]), "only_other": list(self.only_other[:_LISTED])},
        }


def compare(this: Evaluation, other: Evaluation, seed: int = 0) -> Comparison:
    """Compare two evaluations on the items that both have, by id. Raises UserError without common items.

    >>> scored = restune.evaluate(run_folder, photos, split="all")
    >>> compare(scored, scored).accuracy.difference
    0.0
    """
    places = {name: place for place, name in enumerate(other.ids)}
    common = [(place, places[name]) for place, name in enumerate(this.ids) if name in places]
    if not common:
        raise UserError("the two evaluations have no items in common", where=other.data or "--against")
    mine, its = (np.array(column, np.int64) for column in zip(*common, strict=True))
    targets = this.targets[mine]
    positions = {name: position for position, name in enumerate(this.classes)}
    own = np.array([positions.get(name, -1) for name in other.classes], np.int64)
    if not np.array_equal(targets, own[other.targets[its]]):
        raise UserError("the two evaluations differ in the items' labels", where=other.data or "--against")
    right = np.stack([this.predicted[mine] == targets, own[other.predicted[its]] == targets])
    losses = np.stack([_losses(this)[mine], _losses(other)[its]])
    only_this, only_other = np.flatnonzero(right[0] & ~right[1]), np.flatnonzero(right[1] & ~right[0])
    p_exact, p_mid = mcnemar(len(only_this), len(only_other))
    accuracy, balanced, nll = _differences(right, losses, targets, len(this.classes), seed)
    return Comparison(
        model=other.model,
        n=len(common),
        only_this=tuple(this.ids[mine[place]] for place in only_this),
        only_other=tuple(this.ids[mine[place]] for place in only_other),
        both=int((right[0] & right[1]).sum()),
        p_exact=p_exact,
        p_mid=p_mid,
        accuracy=accuracy,
        balanced_accuracy=balanced,
        nll=nll,
    )


def paired_difference(this: NDArray[np.float64], other: NDArray[np.float64], seed: int = 0) -> Difference:
    """Compare two means over the same items, such as the share of items that each of two models predicts correctly.

    Args:
        this, other: one value per item, in the same order.
        seed: of the resamples of the interval.

    >>> paired_difference(np.array([1.0, 1.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 1.0])).difference
    0.25
    """
    gains = np.asarray(this, np.float64) - np.asarray(other, np.float64)
    low, high = _bootstrap(lambda chosen: gains[chosen].mean(keepdims=True), len(gains), seed)
    return Difference(this=float(np.mean(this)), other=float(np.mean(other)), interval=(float(low[0]), float(high[0])))


def mcnemar(only_this: int, only_other: int) -> tuple[float, float]:
    """Return the exact and the mid-p two-sided p-value of McNemar's test, from the numbers of discordant items.

    >>> [round(p, 5) for p in mcnemar(1, 5)]
    [0.21875, 0.125]
    """
    from scipy.stats import binom

    total, fewer = only_this + only_other, min(only_this, only_other)
    if total == 0:
        return 1.0, 1.0
    tail, point = float(binom.cdf(fewer, total, 0.5)), float(binom.pmf(fewer, total, 0.5))
    return min(1.0, 2 * tail), min(1.0, 2 * tail - point)


def _differences(
    right: NDArray[np.bool_], losses: NDArray[np.float64], targets: NDArray[np.int64], classes: int, seed: int
) -> tuple[Difference, Difference, Difference]:
    """Return the differences of accuracy, balanced accuracy and mean loss, over the same resamples."""

    def scores(chosen: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """Return ``[3, 2]``: the scores of both models on some items."""
        hits, of = right[:, chosen], targets[chosen]
        counts = np.bincount(of, minlength=classes)
        recalls = [np.bincount(of, weights=row, minlength=classes)[counts > 0] / counts[counts > 0] for row in hits]
        return np.stack([hits.mean(axis=1), [recall.mean() for recall in recalls], losses[:, chosen].mean(axis=1)])

    whole = scores(slice(None))
    low, high = _bootstrap(lambda chosen: scores(chosen) @ (1.0, -1.0), len(targets), seed)
    pairs = zip(whole.tolist(), low.tolist(), high.tolist(), strict=True)
    accuracy, balanced, nll = (
        Difference(this=this, other=other, interval=(least, most)) for (this, other), least, most in pairs
    )
    return accuracy, balanced, nll


def _bootstrap(
    statistics: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 2.5% and 97.5% percentiles of statistics over resamples of n items."""
    count = int(np.clip(_MOST_DRAWS // n, _FEWEST_RESAMPLES, _RESAMPLES))
    random = generator(seed, "paired bootstrap")
    drawn = np.stack([statistics(random.integers(0, n, n)) for _ in range(count)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return low, high


def _losses(evaluation: Evaluation) -> NDArray[np.float64]:
    """Return each item's negative log-likelihood, after calibration."""
    temperature = 1.0 if evaluation.calibration is None else evaluation.calibration.temperature
    parts, start = [], 0
    for logits in chunks(evaluation.logits):
        wide = np.asarray(logits, np.float64) / temperature
        top = wide.max(axis=1)
        total = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
        rows = np.arange(len(wide))
        parts.append(total - wide[rows, evaluation.targets[start : start + len(wide)]])
        start += len(wide)
    return np.concatenate(parts) if parts else np.zeros(0)
