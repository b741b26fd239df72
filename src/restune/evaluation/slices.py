"""Slices of an evaluation: accuracy by column, by property and in clusters of embeddings, and which are worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.streams import derive
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.logits import chunks
from restune.evaluation.metrics import wilson_interval

LEVEL = 0.05
"""Corrected p-value below which a slice counts as worse."""
_PARTS = 4
_MOST_VALUES = 50
_MOST_CLUSTERS = 20
_ITEMS_A_CLUSTER = 40
_FITTED = 5_000
"""Items from which the cluster centres are computed."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of the scored items.

    Args:
        by: the column, the property, or ``cluster``.
        value: a column's value, a property's range, or the cluster's most frequent classes.
        source: ``column``, ``property`` or ``cluster``.
        n, correct: number of items, and of those predicted correctly.
        others, others_correct: of all other items.
        p: one-sided p-value of Fisher's exact test that the accuracy is not lower than elsewhere, corrected by Holm's
            method for the number of slices of the same source.
        items: ids of a cluster's most typical items.
    """

    by: str
    value: str
    source: str
    n: int
    correct: int
    others: int
    others_correct: int
    p: float
    items: tuple[str, ...] = field(default=(), repr=False)

    @property
    def accuracy(self) -> float:
        """Share predicted correctly."""
        return self.correct / self.n

    @property
    def elsewhere(self) -> float | None:
        """Accuracy on all other items; None without any."""
        return self.others_correct / self.others if self.others else None

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95% Wilson interval."""
        return wilson_interval(self.correct, self.n)

    @property
    def is_worse(self) -> bool:
        """Whether the accuracy is significantly lower than elsewhere."""
        return self.p < LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Return an entry of ``slices`` in the evaluation's JSON."""
        return {
            "by": self.by,
            "value": self.value,
            "source": self.source,
            "n": self.n,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "elsewhere": self.elsewhere,
            "p": self.p,
            "worse": self.is_worse,
            **({"items": list(self.items)} if self.items else {}),
        }


def find_slices(
    evaluation: Evaluation, columns: Mapping[str, Sequence[str]], properties: Mapping[str, NDArray[np.float64]]
) -> tuple[Slice, ...]:
    """Return the slices of all columns and properties, and the weak clusters, each source with the worst first.

    Args:
        columns: the items' values ``[N]`` in columns of a table; of numbers, quarters of the items are slices.
        properties: the items' properties ``[N]``, NaN where unknown.
    """
    right = evaluation.predicted == evaluation.targets
    by_column = [slice_ for name, values in columns.items() for slice_ in _column(name, values, right)]
    by_property = [
        slice_ for name, values in properties.items() for slice_ in _quarters(name, values, right, "property")
    ]
    clusters = [one for one in weak_clusters(evaluation) if one.is_worse]
    return (*_worst_first(corrected(by_column)), *_worst_first(corrected(by_property)), *_worst_first(clusters))


def weak_clusters(evaluation: Evaluation) -> list[Slice]:
    """Group the items by k-means on their normalised embeddings, and test every cluster.

    Groups are formed without labels and predictions, so that a test of each, corrected for their number, is fair.
    Returns all clusters; none for fewer than two of 40 items, and without embeddings.
    """
    embeddings = evaluation.embeddings
    count = min(_MOST_CLUSTERS, evaluation.n // _ITEMS_A_CLUSTER)
    if embeddings is None or count < 2:
        return []
    centres = _centres(embeddings, count)
    labels, distances = _assigned(embeddings, centres)
    right = evaluation.predicted == evaluation.targets
    found = []
    for cluster in range(len(centres)):
        chosen = labels == cluster
        if not chosen.any():
            continue
        places = np.flatnonzero(chosen)
        typical = places[np.argsort(distances[places], kind="stable")[:5]]
        slice_ = _slice("cluster", _classes_of(evaluation, places), "cluster", chosen, right)
        found.append(replace(slice_, items=tuple(evaluation.ids[place] for place in typical)))
    return corrected(found)


def corrected(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices with p-values corrected by Holm's method (1979) for their number."""
    order = np.argsort([slice_.p for slice_ in slices], kind="stable")
    adjusted, highest = list(slices), 0.0
    for rank, place in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(slices) - rank) * slices[place].p))
        adjusted[place] = replace(slices[place], p=highest)
    return adjusted


def _worst_first(slices: Sequence[Slice]) -> list[Slice]:
    return sorted(slices, key=lambda one: (one.p, one.accuracy))


def _column(name: str, values: Sequence[str], right: NDArray[np.bool_]) -> list[Slice]:
    """Return the slices of a column: quarters of many different numbers, else each value, rare ones together."""
    counts = Counter(values)
    if len(counts) > _PARTS * 2 and (numbers := _as_numbers(values)) is not None:
        return _quarters(name, numbers, right, "column")
    kept = [value for value, _ in counts.most_common(_MOST_VALUES)]
    table = np.array(values)
    found = [_slice(name, value or "(empty)", "column", table == value, right) for value in kept]
    if len(counts) > len(kept):
        rest = ~np.isin(table, kept)
        found.append(_slice(name, f"({len(counts) - len(kept)} other values)", "column", rest, right))
    return found


def _as_numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    """Return a column's numbers, NaN for empty values; None if some values are not numbers."""
    try:
        return np.array([float(value) if value else np.nan for value in values])
    except ValueError:
        return None


def _quarters(name: str, values: NDArray[np.float64], right: NDArray[np.bool_], source: str) -> list[Slice]:
    """Return up to four slices of about equally many items, by their value."""
    known = values[np.isfinite(values)]
    if len(np.unique(known)) < 2:
        return []
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _PARTS + 1)[1:-1], method="inverted_cdf"))
    parts = np.where(np.isfinite(values), np.searchsorted(edges, values, "left"), -1)
    found = []
    for part in range(len(edges) + 1):
        chosen = parts == part
        if chosen.any():
            low, high = values[chosen].min(), values[chosen].max()
            found.append(_slice(name, f"{low:.4g} to {high:.4g}", source, chosen, right))
    return found


def _slice(by: str, value: str, source: str, chosen: NDArray[np.bool_], right: NDArray[np.bool_]) -> Slice:
    from scipy.stats import hypergeom

    n, correct, total, hits = int(chosen.sum()), int(right[chosen].sum()), len(right), int(right.sum())
    return Slice(
        by=by, value=value, source=source, n=n, correct=correct, others=total - n, others_correct=hits - correct,
        p=float(hypergeom.cdf(correct, total, hits, n)),
    )  # fmt: skip


def _classes_of(evaluation: Evaluation, places: NDArray[np.intp]) -> str:
    """Describe a cluster by its most frequent classes."""
    common = Counter(evaluation.targets[places].tolist()).most_common(2)
    return ", ".join(f"{evaluation.classes[target]} {count / len(places):.0%}" for target, count in common)


def _centres(embeddings: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans

    step = -(-len(embeddings) // _FITTED)
    sample = _normalized(np.array(embeddings[::step]))
    seed = derive(0, "weak clusters") % 2**32
    centres: NDArray[np.float32] = (
        KMeans(min(count, len(np.unique(sample, axis=0))), n_init=1, max_iter=100, random_state=seed)
        .fit(sample)
        .cluster_centers_
    )
    return centres


def _assigned(
    embeddings: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return each item's nearest centre, and its squared distance up to a constant."""
    labels, distances = [], []
    for part in chunks(embeddings):
        table = (centres**2).sum(axis=1) - 2 * _normalized(np.array(part)) @ centres.T
        labels.append(table.argmin(axis=1))
        distances.append(table.min(axis=1))
    return np.concatenate(labels), np.concatenate(distances)


def _normalized(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    normal: NDArray[np.float32] = rows / np.maximum(norms, 1e-12)
    return normal
