"""Choose the next items to label: uncertain ones that differ from one another, or typical ones where nothing is known.

Where a head is known: margins and k-means, after Zhdanov 2019 (Diverse mini-batch active learning, arXiv:1901.05954).
Where none is: the most typical item of each cluster, after Hacohen et al. 2022 (Active learning on a budget,
arXiv:2202.02794).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Margins = NDArray[np.float64]
_OFFERED = 3
"""Uncertain items that proposals are chosen from, as a multiple of the number of proposals."""
_NEIGHBOURS = 20
_MOST_POOL = 50_000
"""Items that are clustered; of more, a random sample."""
_MOST_CLUSTERS = 500
_MOST_DISTANCES = 5_000_000
"""Distances of a step of k-means, above which it takes its steps on parts of the items."""
_MOST_IN_CLUSTER = 2_000


def margins_of(probabilities: NDArray[np.float64]) -> Margins:
    """Return the probability of each item's first class minus that of its second, ``[N]``.

    >>> margins_of(np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])).tolist()
    [0.25, 1.0]
    """
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    margins: Margins = two[:, 1] - two[:, 0]
    return margins


def propose(rows: Tensor, count: int, margins: Margins | None, labelled: Tensor, seed: int = 0) -> NDArray[np.int64]:
    """Return the positions of the items to label next, the most useful first.

    Args:
        rows: features of the unlabelled items, ``[N, D]``.
        count: number of items, at most N.
        margins: of a head's probabilities, ``[N]``; None where no head is known.
        labelled: features of the labelled items, ``[M, D]``.
        seed: of the clusters.

    >>> rows = torch.tensor([[1.0, 0.0], [0.99, 0.01], [0.0, 1.0], [0.7, 0.7]])
    >>> sorted(propose(rows, 2, np.array([0.1, 0.3, 0.2, 0.9]), rows[:0]).tolist())
    [0, 2]
    """
    places = np.arange(len(rows))
    if len(rows) > _MOST_POOL and margins is None:
        places = np.sort(np.random.default_rng(seed).permutation(len(rows))[: max(count, _MOST_POOL)])
    unit = torch.nn.functional.normalize(rows[places].float(), dim=1).numpy()
    if margins is None:
        known = torch.nn.functional.normalize(labelled.float(), dim=1).numpy()
        return places[_typical(unit, count, known, seed)]
    return _diverse(unit, count, margins, seed)


def _diverse(unit: NDArray[np.float32], count: int, margins: Margins, seed: int) -> NDArray[np.int64]:
    """Cluster the most uncertain items, weighted by uncertainty; take the item nearest to each cluster's centre."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    uncertainty = 1 - margins
    offered = np.argsort(-uncertainty, kind="stable")[: _OFFERED * count]
    if len(offered) <= count:
        return offered
    weights = uncertainty[offered] + 1e-6
    method = KMeans if len(offered) * count <= _MOST_DISTANCES else MiniBatchKMeans
    clusters = _fitted(method(count, n_init=1, max_iter=50, random_state=seed % 2**32), unit[offered], weights)
    chosen = _nearest(unit[offered], clusters.labels_, clusters.cluster_centers_)
    left = np.setdiff1d(np.arange(len(offered)), chosen)  # of clusters that are empty: the most uncertain others
    chosen = np.concatenate([chosen, left[: count - len(chosen)]])
    return offered[np.sort(chosen)]


def _fitted(clusters: Any, rows: NDArray[np.float32], weights: NDArray[np.float64] | None = None) -> Any:
    """Fit k-means; fewer distinct rows than clusters are no reason to warn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Number of distinct clusters")
        return clusters.fit(rows, sample_weight=weights)


def _nearest(
    unit: NDArray[np.float32], labels: NDArray[np.int32], centers: NDArray[np.float32]
) -> NDArray[np.int64]:  # fmt: skip
    """Return the item nearest to each cluster's centre."""
    distance = ((unit - centers[labels]) ** 2).sum(axis=1)
    order = np.lexsort((distance, labels))
    _, first = np.unique(labels[order], return_index=True)
    return order[first]


def _typical(unit: NDArray[np.float32], count: int, known: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Cluster all items; from the largest clusters without a labelled item take the one closest to its neighbours."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    number = min(len(known) + count, _MOST_CLUSTERS, len(unit))
    method = KMeans if len(unit) <= 5_000 else MiniBatchKMeans
    fitted = _fitted(method(number, n_init=1, random_state=seed % 2**32), np.concatenate([unit, known]))
    labels, covered = fitted.labels_[: len(unit)], np.bincount(fitted.labels_[len(unit) :], minlength=number)
    sizes = np.bincount(labels, minlength=number)
    order = sorted(np.flatnonzero(sizes).tolist(), key=lambda cluster: (covered[cluster], -sizes[cluster]))
    ranked = {cluster: _by_typicality(unit, np.flatnonzero(labels == cluster)) for cluster in order}
    rounds = (ranked[cluster][turn] for turn in range(max(map(len, ranked.values()))) for cluster in order
              if turn < len(ranked[cluster]))  # fmt: skip
    chosen = [int(place) for place, _ in zip(rounds, range(count), strict=False)]
    return np.array(chosen, np.int64)


def _by_typicality(unit: NDArray[np.float32], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a cluster's items, those with the nearest neighbours first."""
    members = members[:_MOST_IN_CLUSTER]
    distance = 2 - 2 * unit[members] @ unit[members].T
    neighbours = min(_NEIGHBOURS, len(members) - 1)
    mean = np.sort(distance, axis=1)[:, 1 : neighbours + 1].mean(axis=1) if neighbours else np.zeros(1)
    return members[np.argsort(mean, kind="stable")]
