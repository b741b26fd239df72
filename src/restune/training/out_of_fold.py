"""Out-of-fold logits: each item's, from a logistic head that was fitted without it and without its copies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.streams import generator
from restune.training.logistic import Problem, Solver, choose_on_validation, principal_axes

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Logits of items that their head has not seen.

    Args:
        logits: float32 ``[N, classes]``.
        folds: number of heads.
        l2: their L2 strength, chosen on the first fold.
    """

    logits: NDArray[np.float32]
    folds: int
    l2: float


def out_of_fold(
    rows: Tensor, targets: NDArray[np.int64], classes: int, groups: NDArray[np.int64] | None = None, seed: int = 0
) -> OutOfFold:
    """Fit a head per fold by logistic regression on the other folds, and return its logits of the fold's items.

    Args:
        rows: features ``[N, D]``, float32.
        targets: class indices ``[N]``.
        classes: number of classes.
        groups: ``[N]``; items of one group, such as copies of one image, are in the same fold.
        seed: of the folds.
    """
    fold_of = folds_of(targets, groups, seed)
    axes = principal_axes(rows)
    known = torch.from_numpy(targets)
    logits = np.zeros((len(targets), classes), np.float32)
    head = None
    for fold in range(FOLDS):
        outside = torch.from_numpy(fold_of == fold)
        part = Problem(rows=rows[~outside], targets=known[~outside], classes=classes)
        if head is None:
            head = choose_on_validation(part, rows[outside], known[outside]).head
        else:
            head = replace(Solver(part, axes).solve(head.l2, head), l2=head.l2)
        logits[outside.numpy()] = head.logits(rows[outside]).numpy()
    assert head is not None
    return OutOfFold(logits=logits, folds=FOLDS, l2=head.l2)


def folds_of(
    targets: NDArray[np.int64], groups: NDArray[np.int64] | None, seed: int, count: int = FOLDS
) -> NDArray[np.int64]:  # fmt: skip
    """Return the fold of each item: groups stay whole, and each class is dealt to the folds in random order.

    A group's class is that of its first item.

    >>> folds_of(np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 4, 5, 6]), seed=0).tolist()
    [2, 2, 1, 0, 3, 4, 1, 0]
    """
    if groups is None:
        groups = np.arange(len(targets))
    _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    order = generator(seed, "out of fold").permutation(len(first))
    by_class = order[np.argsort(targets[first[order]], kind="stable")]
    folds = np.empty(len(first), np.int64)
    folds[by_class] = np.arange(len(first)) % count
    return folds[codes.reshape(-1)]
