"""Groups of items that are copies of each other, from hashes and from verified pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Copies:
    """Groups of copies. All arrays have one row per item.

    Args:
        groups: the group of each item; items without copies are alone in theirs.
        exact: the subgroup of items of equal content.
        twins: of each item the nearest copy that is not equal to it, -1 if there is none.
        scores: similarity to that copy.
        changes: what turns one into the other, an index into `names`; -1 without such a copy.
        names: of the changes, for messages.
    """

    groups: NDArray[np.int64]
    exact: NDArray[np.int64]
    twins: NDArray[np.int64]
    scores: NDArray[np.float32]
    changes: NDArray[np.int64]
    names: tuple[str, ...]

    def members(self) -> list[NDArray[np.int64]]:
        """Return the rows of each group of several items, in order."""
        order = np.argsort(self.groups, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(self.groups[order]) != 0, True)) + 1
        starts = np.append(0, ends[:-1])
        several = np.flatnonzero(ends - starts > 1)
        groups = [order[starts[one] : ends[one]] for one in several.tolist()]
        return sorted(groups, key=lambda rows: int(rows[0]))


def numbered(*keys: NDArray[np.uint64], is_known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a number for each item, equal for items that share any key; items that are not known are alone."""
    count = len(is_known)
    rows = np.flatnonzero(is_known)
    first, second = [], []
    for key in keys:
        _, place, code = np.unique(key[rows], return_index=True, return_inverse=True)
        first.append(rows)
        second.append(rows[place][code])
    return joined(count, np.concatenate(first), np.concatenate(second))


def joined(count: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each item's component in the graph of these pairs."""
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(count, count))
    _, components = connected_components(graph, directed=False)
    return np.asarray(components, np.int64)


def representatives(exact: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first row of each subgroup of equal items."""
    return np.sort(np.unique(exact, return_index=True)[1])


def grouped_copies(
    exact: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    scores: NDArray[np.float32],
    changes: NDArray[np.int64],
    names: tuple[str, ...],
) -> Copies:
    """Group items from their equality and from verified pairs of items that are not equal.

    Args:
        exact: equal numbers for equal items.
        first, second: rows of each pair.
        scores, changes: of each pair.
        names: of the changes.
    """
    count = len(exact)
    heads = np.unique(exact, return_index=True)[1]
    everyone = np.arange(count)
    groups = joined(count, np.concatenate([everyone, first]), np.concatenate([heads[exact], second]))
    twins, best, change = np.full(count, -1), np.zeros(count, np.float32), np.full(count, -1)
    order = np.argsort(scores, kind="stable")  # the best pair of an item is written last
    for one, other in ((first, second), (second, first)):
        better = order[scores[order] >= best[one[order]]]
        best[one[better]], twins[one[better]], change[one[better]] = scores[better], other[better], changes[better]
    head = heads[exact]
    return Copies(groups, exact, twins[head], best[head], change[head], names)
