"""Cross-validated accuracies of a head at growing numbers of labels, for `evaluation.learning_curve`."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.console import progress
from restune.core.streams import generator
from restune.evaluation.learning_curve import CurvePoints
from restune.training.logistic import Problem, Solver, choose_by_folds, principal_axes

LEAST_LABELS = 20
"""Labels below which no curve is measured."""
_FOLDS = 10
_SIZES = 6
_REPEATS = 3
_LEAST_SIZE = 8
_ROUGH = {"ftol": 1e-6, "gtol": 1e-4}
"""Tolerances of L-BFGS: which class is first is settled long before the optimum."""
_SECONDS = 30.0
"""Time after which no further repeat begins."""


def curve_points(rows: Tensor, targets: NDArray[np.int64], classes: int, seed: int = 0) -> CurvePoints:
    """Fit heads to growing parts of nine tenths of the items and score them on the tenth that they have not seen.

    Repeated over ten folds and several orders of the items. The L2 strength is chosen by cross-validation on all items,
    and scaled so that the penalty of n items stays in proportion to their loss.

    Args:
        rows: features ``[N, D]``, float32.
        targets: class indices ``[N]``; at least `LEAST_LABELS` items.
        classes: number of classes.
        seed: of folds and orders.
    """
    known, count = torch.from_numpy(targets), len(targets)
    whole = Problem(rows=rows, targets=known, classes=classes)
    l2 = choose_by_folds(whole, np.arange(count), seed).head.l2
    axes = principal_axes(rows)
    sizes = _sizes(count, classes)
    tally = _Tally(count, len(sizes))
    started = time.perf_counter()
    with progress("learning curve", _REPEATS * _FOLDS) as advance:
        for repeat in range(_REPEATS):
            if time.perf_counter() - started > _SECONDS:
                break
            order = generator(seed + repeat, "learning curve").permutation(count)
            for start in range(0, count, -(-count // _FOLDS)):
                turned = np.roll(order, -start)  # the last tenth of each turn is held out of every head
                head = None
                for place, size in enumerate(sizes.tolist()):
                    part, others = turned[:size], turned[size:]
                    solver = Solver(replace(whole, rows=rows[part], targets=known[part]), axes)
                    head = solver.solve(l2 * count / size, head, _ROUGH)
                    tally.add(place, others, (head.logits(rows[others]).argmax(1) == known[others]).numpy())
                advance(1)
    return CurvePoints(sizes=sizes, correct=tally.correct(), noise=tally.noise(sizes), heads=tally.heads)


class _Tally:
    """Which heads were right on which items, by size."""

    def __init__(self, items: int, sizes: int) -> None:
        self._right, self._seen = np.zeros((items, sizes)), np.zeros((items, sizes))
        self._scored: list[list[tuple[NDArray[np.int64], NDArray[np.bool_]]]] = [[] for _ in range(sizes)]

    @property
    def heads(self) -> int:
        """Number of heads of each size."""
        return len(self._scored[0])

    def add(self, size: int, items: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
        """Add a head: the items that it has not seen, and where it is right."""
        self._right[items, size] += right
        self._seen[items, size] += 1
        self._scored[size].append((items, right))

    def correct(self) -> NDArray[np.float64]:
        """Return the share of an item's heads that are right on it, by item and size."""
        share: NDArray[np.float64] = self._right / np.maximum(self._seen, 1)
        return share

    def noise(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the standard deviation of a head's accuracy from one drawing of its labels to another.

        Measured where heads see at most half of the items, relative to the difficulty of those that they are scored on;
        of larger ones it is taken to fall as ``n ** -0.5``.
        """
        correct, count = self.correct(), len(self._right)
        steady = []
        for place, size in enumerate(sizes.tolist()):
            if place and 2 * size > count:
                break
            flips = correct[:, place] * (1 - correct[:, place])
            rest = [float((right - correct[items, place]).mean()) for items, right in self._scored[place]]
            own = [float(flips[items].sum()) / len(items) ** 2 for items, _ in self._scored[place]]
            variance = float(np.mean(np.square(rest))) * len(rest) / max(1, len(rest) - 1)
            steady.append(max(variance - float(np.mean(own)), 0.25 * variance) * size)
        noise: NDArray[np.float64] = np.sqrt(np.mean(steady) / sizes)
        return noise


def _sizes(count: int, classes: int) -> NDArray[np.int64]:
    """Return the numbers of labels to fit to, from few to nine tenths of the items."""
    most = count - -(-count // _FOLDS)
    least = min(max(_LEAST_SIZE, 2 * classes, count // 8), most // 2)
    return np.unique(np.geomspace(least, most, _SIZES).round().astype(np.int64))
