"""Outliers by the distance to their nearest neighbours in feature space (Ramaswamy et al. 2000)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NEIGHBOURS = 10
_CHUNK = 1024
_MOST = 10_000
"""Items that distances are measured to; of more, a random sample."""
_FAR = 5.0
"""Robust standard deviations above the median of log distances from which an item is an outlier."""


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """How far each item is from the others.

    Args:
        distance: ``[N]``, mean distance to the nearest neighbours over that of a typical item; 1 is typical.
        is_outlier: ``[N]``.
    """

    distance: NDArray[np.float64]
    is_outlier: NDArray[np.bool_]


def find_outliers(rows: Tensor, seed: int = 0, neighbours: int = NEIGHBOURS) -> Outliers:
    """Find items that are unlike all others.

    An item is an outlier if the logarithm of its mean distance to its nearest neighbours lies more than 5 robust
    standard deviations (1.4826 times the median absolute deviation) above the median of all items.

    Args:
        rows: features ``[N, D]``.
        seed: of the sample that distances are measured to where there are more than 10,000 items.
        neighbours: number of neighbours; at most a third of the items.

    >>> rows = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> rows[7] += 100
    >>> np.flatnonzero(find_outliers(rows).is_outlier).tolist()
    [7]
    """
    count = len(rows)
    neighbours = max(1, min(neighbours, count // 3))
    if count < 3:
        return Outliers(distance=np.ones(count), is_outlier=np.zeros(count, bool))
    random = torch.Generator().manual_seed(seed)
    others = torch.randperm(count, generator=random)[:_MOST] if count > _MOST else torch.arange(count)
    distance = _distances(rows, others, neighbours)
    middle = float(np.median(distance))
    if middle <= 0:
        return Outliers(distance=np.ones(count), is_outlier=np.zeros(count, bool))
    relative = distance / middle
    logs = np.log(np.maximum(relative, 1e-6))
    spread = 1.4826 * float(np.median(np.abs(logs)))
    return Outliers(distance=relative, is_outlier=logs > _FAR * max(spread, 0.02))


def _distances(rows: Tensor, others: Tensor, neighbours: int) -> NDArray[np.float64]:
    """Return the mean distance of each row to its nearest ones among `others`, itself not counted."""
    reference = rows[others].float()
    found = []
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK].float()
        gaps = torch.cdist(part, reference)
        same = others[None, :] == torch.arange(start, start + len(part))[:, None]
        found.append(gaps.masked_fill_(same, torch.inf).topk(neighbours, largest=False).values.mean(1))
    return torch.cat(found).double().numpy()
