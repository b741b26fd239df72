"""Metrics of multi-label classification and regression on arrays, and their bootstrap intervals.

Definitions are scikit-learn's: `average_precision_score`, `roc_auc_score`, `f1_score`, `accuracy_score`,
`hamming_loss`, `mean_absolute_error`, `root_mean_squared_error`, `r2_score`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_MOST_RESAMPLES, _LEAST_RESAMPLES = 1000, 100
_WORK = 3e7
"""Values that a bootstrap may touch: few resamples of many items are as good as many of few."""
_CHUNK = 2**22


@dataclass(frozen=True)
class Ranking:
    """The items in falling order of one label's score, as far as ranking metrics need it.

    Args:
        order: of the items ``[N]``.
        ends: index of the last item of each group of equal scores, in this order.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.floating]) -> Ranking:
        """Rank items by their scores ``[N]``."""
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        return cls(order, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)))


def average_precision(ranking: Ranking, is_true: NDArray[np.bool_], weights: Array | None = None) -> Array:
    """Compute the average precision of one label: the precision at each true item, averaged.

    Args:
        ranking: of the items by their score.
        is_true: which items have the label ``[N]``.
        weights: of the items, one row per resample ``[B, N]``; None: one row of ones.

    Returns:
        One value per row of `weights`, NaN without a true item.

    >>> import numpy as np
    >>> float(average_precision(Ranking.of(np.array([0.9, 0.8, 0.1])), np.array([True, False, True]))[0])
    0.8333333333333333
    """
    places, last, ends = _true_places(ranking, is_true)
    if not len(places):
        return np.full(1 if weights is None else len(weights), np.nan)
    if weights is None:
        own, seen = np.ones((1, len(places))), (ends + 1.0)[None]
    else:
        ranked = weights[:, ranking.order]
        own, seen = ranked[:, places], np.cumsum(ranked, axis=1)[:, ends]
    found = np.cumsum(own, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(own > 0, found[:, last] / np.maximum(seen, 1e-300), 0.0)
        return np.asarray((own * precision).sum(axis=1) / found[:, -1])


def _true_places(
    ranking: Ranking, is_true: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the true items' ranks, and where each one's group of ties ends: among the true items, and among all."""
    places = np.flatnonzero(is_true[ranking.order])
    ends = ranking.ends[np.searchsorted(ranking.ends, places)]
    last = np.searchsorted(places, ends, side="right") - 1
    return places, last, ends


def auroc(ranking: Ranking, is_true: NDArray[np.bool_], weights: Array | None = None) -> Array:
    """Compute the area under one label's ROC curve, as `average_precision`; NaN where all or no items have it."""
    found, seen = _cumulated(ranking, is_true, weights)
    false = seen - found
    steps, heights = np.diff(false, axis=1, prepend=0.0), np.diff(found, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (steps * (found - heights / 2)).sum(axis=1)
        return np.asarray(area / (found[:, -1] * false[:, -1]))


def _cumulated(ranking: Ranking, is_true: NDArray[np.bool_], weights: Array | None) -> tuple[Array, Array]:
    """Return the weight of true items and of all items down to each group of equal scores ``[B, groups]``."""
    truth = is_true[ranking.order].astype(np.float64)
    if weights is None:
        found, seen = np.cumsum(truth)[None], np.arange(1.0, len(truth) + 1)[None]
    else:
        ranked = weights[:, ranking.order]
        found, seen = np.cumsum(ranked * truth, axis=1), np.cumsum(ranked, axis=1)
    return found[:, ranking.ends], seen[:, ranking.ends]


def mean_average_precision(scores: NDArray[np.floating], is_true: NDArray[np.bool_]) -> float:
    """Compute the mean average precision over the labels that some item has; NaN if there are none.

    Args:
        scores: ``[N, C]``; only their order matters.
        is_true: ``[N, C]``.
    """
    with_items = np.flatnonzero(is_true.any(axis=0))
    values = [float(average_precision(Ranking.of(scores[:, c]), is_true[:, c])[0]) for c in with_items]
    return float(np.mean(values)) if values else float("nan")


def f1_of(hits: Array, actual: Array, predicted: Array) -> Array:
    """Compute F1 from counts of correct, true and predicted items; 0 without true or predicted items."""
    return np.asarray(2 * hits / np.maximum(actual + predicted, 1e-300))


def best_thresholds(probabilities: NDArray[np.floating], is_true: NDArray[np.bool_]) -> tuple[float, ...]:
    """Choose for each label the probability from which predicting it has the highest F1.

    The threshold lies halfway between two neighbouring probabilities; of equally good ones it is the one nearest to
    0.5. A label that no item has, or all have, gets 0.5.

    Args:
        probabilities: of validation items ``[N, C]``.
        is_true: ``[N, C]``.

    >>> import numpy as np
    >>> best_thresholds(np.array([[0.1], [0.2], [0.4]]), np.array([[False], [True], [True]]))
    (0.15,)
    """
    return tuple(_best_threshold(probabilities[:, c], is_true[:, c]) for c in range(is_true.shape[1]))


def _best_threshold(scores: NDArray[np.floating], is_true: NDArray[np.bool_]) -> float:
    count = int(is_true.sum())
    if count in (0, len(is_true)):
        return 0.5
    ranking = Ranking.of(scores)
    found, seen = _cumulated(ranking, is_true, None)
    f1 = f1_of(found[0], np.full(1, float(count)), seen[0])
    lowest = scores[ranking.order][ranking.ends].astype(np.float64)
    edges = (lowest + np.append(lowest[1:], 0.0)) / 2
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return round(float(edges[best[np.argmin(np.abs(edges[best] - 0.5))]]), 6)


def bootstrap(statistic: Callable[[Array], Array], n: int, cost: int, seed: int = 0) -> Array:
    """Compute a 95% interval of statistics over items drawn with replacement (Efron and Tibshirani 1993).

    The percentiles of the resamples are shifted by the difference of the resamples' mean from the statistic itself:
    an item that is drawn twice raises average precision, so resamples score higher than new samples would.

    Args:
        statistic: from weights of the items, one row per resample ``[B, N]``, to values ``[B, ...]``; NaN is left out.
        n: number of items.
        cost: values per item that the statistic touches; many lower the number of resamples, at least 100.
        seed: of the draw.

    Returns:
        ``[2, ...]``: lower and upper ends; NaN where the statistic is not defined.
    """
    resamples = int(np.clip(_WORK / (max(1, n) * max(1, cost)), _LEAST_RESAMPLES, _MOST_RESAMPLES))
    values = np.concatenate([statistic(weights) for weights in _resamples(n, resamples, seed)])
    whole = statistic(np.ones((1, n)))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns of NaN only
        shift = np.nanmean(values, axis=0) - whole
        return np.asarray(np.nanquantile(values, (0.025, 0.975), axis=0) - shift)


def _resamples(n: int, count: int, seed: int) -> Iterator[Array]:
    """Yield weights ``[B, N]``: how often each item is drawn, in chunks of bounded memory."""
    random = np.random.default_rng(seed)
    size = max(1, min(count, _CHUNK // max(1, n)))
    for start in range(0, count, size):
        drawn = random.integers(0, n, (min(size, count - start), n))
        rows = np.arange(len(drawn))[:, None] * n
        yield np.bincount((drawn + rows).ravel(), minlength=len(drawn) * n).reshape(len(drawn), n).astype(np.float64)


def regression_scores(targets: Array, values: Array, weights: Array | None = None) -> dict[str, Array]:
    """Compute MAE, RMSE and R2 of each target.

    Args:
        targets, values: true and predicted numbers ``[N, C]``.
        weights: one row per resample ``[B, N]``; None: one row of ones.

    Returns:
        ``mae``, ``rmse`` and ``r2``, each ``[B, C]``; R2 is NaN for a constant target.
    """
    w = np.ones((1, len(targets))) if weights is None else weights
    total = w.sum(axis=1, keepdims=True)
    errors, centred = values - targets, targets - targets.mean(axis=0)
    squares = w @ errors**2
    spread = w @ centred**2 - (w @ centred) ** 2 / total
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(spread > 1e-12 * total, 1 - squares / spread, np.nan)
    return {"mae": w @ np.abs(errors) / total, "rmse": np.sqrt(squares / total), "r2": r2}
