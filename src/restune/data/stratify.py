"""Draw held-out items so that both parts have the labels of multi-label data in the same shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_by_labels(
    labels: NDArray[np.bool_], units: NDArray[np.int64], share: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw about a share of the items by iterative stratification (Sechidis et al. 2011); units stay whole.

    The rarest label goes first: each unit that has it goes to the part that still lacks more of it, or, where both lack
    as many, to the part that lacks more items.

    Args:
        labels: which item has which label ``[N, C]``.
        units: number of each item's group, from 0; an item without a group is its own unit.
        share: of the items, above 0 and below 1.
        random: breaks ties.

    Returns:
        Which items are drawn ``[N]``; at least one, and not all where there are two units.

    >>> import numpy as np
    >>> labels = np.arange(20)[:, None] % 2 == [0, 1]
    >>> drawn = draw_by_labels(labels, np.arange(20), 0.2, np.random.default_rng(0))
    >>> labels[drawn].sum(axis=0).tolist()
    [2, 2]
    """
    count = int(units.max()) + 1
    sizes = np.bincount(units, minlength=count).astype(np.float64)
    columns = [np.bincount(units, column, count) for column in labels.T.astype(np.float64)]
    held: NDArray[np.float64] = np.stack(columns, axis=1).astype(np.float64)  # [U, C]
    shares = np.array([1 - share, share])
    lacks, room = shares[:, None] * held.sum(axis=0), shares * sizes.sum()  # [2, C], [2]
    part = np.full(count, -1, np.int8)
    shuffled = random.permutation(count)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    left = held.sum(axis=0)
    while (left > 0.5).any():
        label = int(np.argmin(np.where(left > 0.5, left, np.inf)))
        for unit in order[(held[order, label] > 0) & (part[order] < 0)].tolist():
            _assign(unit, _neediest(lacks[:, label], room), part, held, sizes, lacks, room)
            left -= held[unit]
    for unit in order[part[order] < 0].tolist():
        _assign(unit, int(room[1] > room[0]), part, held, sizes, lacks, room)
    if count > 1 and len(set(part.tolist())) == 1:
        part[order[-1]] = 1 - part[order[-1]]
    return np.asarray((part == 1)[units])


def _neediest(lacks: NDArray[np.float64], room: NDArray[np.float64]) -> int:
    """Return the part that lacks more of a label, then more items: 0 stays, 1 is drawn."""
    if abs(lacks[0] - lacks[1]) > 1e-9:
        return int(lacks[1] > lacks[0])
    return int(room[1] > room[0])


def _assign(
    unit: int,
    chosen: int,
    part: NDArray[np.int8],
    held: NDArray[np.float64],
    sizes: NDArray[np.float64],
    lacks: NDArray[np.float64],
    room: NDArray[np.float64],
) -> None:
    part[unit] = chosen
    lacks[chosen] -= held[unit]
    room[chosen] -= sizes[unit]
