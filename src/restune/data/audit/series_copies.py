"""Series of equal values, and series that are equal after scaling."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import progress
from restune.data.audit.copies import Copies, grouped_copies, numbered, representatives
from restune.data.dataset import Dataset
from restune.data.items import location_at
from restune.data.preload import read_item

_LEAST_CORRELATION = 0.99999
"""Correlation of copies. Smooth series of one class reach 0.999."""
_PROJECTED = 8
_SHORTEST = 16
"""Values below which series are not compared after scaling."""


def copies_of_others(dataset: Dataset) -> tuple[Copies, dict[str, str]]:
    """Group items of equal content; series also where they are equal after scaling and shifting their values.

    Returns also the reason by id of each item that cannot be read.
    """
    contents, is_read = np.zeros(len(dataset), np.uint64), np.zeros(len(dataset), bool)
    unreadable: dict[str, str] = {}
    profiles: dict[int, NDArray[np.float32]] = {}
    with progress("checking items", len(dataset)) as advance:
        for row in range(len(dataset)):
            digits, profile = read_item(location_at(dataset.items, row), _profile)
            if isinstance(profile, str):
                unreadable[dataset.items[row].id] = profile
            else:
                contents[row], is_read[row] = int(digits, 16), True
                if profile is not None:
                    profiles[row] = profile
            advance(1)
    exact = numbered(contents, is_known=is_read)
    rows = [row for row in representatives(exact).tolist() if row in profiles]
    first, second, scores = _scaled(rows, profiles)
    return grouped_copies(exact, first, second, scores, np.zeros(len(first), np.int64), ("scaled",)), unreadable


def _profile(content: Any) -> NDArray[np.float32] | None:
    """Return a series with mean 0 and norm 1; None for other contents and for constant series."""
    if not isinstance(content, np.ndarray) or content.dtype.kind not in "iuf" or content.size < _SHORTEST:
        return None
    values = np.nan_to_num(content.astype(np.float64).ravel())
    values -= values.mean()
    norm = np.linalg.norm(values)
    return (values / norm).astype(np.float32) if norm > 1e-9 else None


def _scaled(
    rows: list[int], profiles: dict[int, NDArray[np.float32]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the pairs of series of one length whose correlation is nearly 1, with it.

    Random projections never lengthen distances, so that near neighbours among them contain all pairs.
    """
    from scipy.spatial import cKDTree

    lengths: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        lengths[len(profiles[row])].append(row)
    found: list[tuple[int, int, float]] = []
    for length, members in lengths.items():
        profile = np.stack([profiles[row] for row in members])
        random = np.random.default_rng(length).standard_normal((length, min(_PROJECTED, length)))
        directions, _ = np.linalg.qr(random)
        tree = cKDTree(profile @ directions)
        reach = np.sqrt(2 * (1 - _LEAST_CORRELATION))
        for one, near in enumerate(tree.query_ball_point(tree.data, reach + 1e-4)):
            for other in sorted(near)[:50]:
                correlation = float(profile[one] @ profile[other])
                if other > one and correlation >= _LEAST_CORRELATION:
                    found.append((members[one], members[other], min(1.0, correlation)))
    columns = np.array(found, np.float64).reshape(-1, 3)
    return columns[:, 0].astype(np.int64), columns[:, 1].astype(np.int64), columns[:, 2].astype(np.float32)
