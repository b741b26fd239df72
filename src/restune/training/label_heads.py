"""Heads fitted on frozen features to their optimum: a logistic regression per label, or ridge regression.

Both minimise ``mean loss + l2 / 2 * |weight|^2``: the sum over labels of binary cross-entropies (scikit-learn's
`LogisticRegression` of each label with C = 1 / (l2 * N)), or half the sum over targets of squared errors (its `Ridge`
with alpha = l2 * N). The bias is not penalised. One strength serves all labels or targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restune.training.logistic import (
    Axes,
    Choice,
    Head,
    Rows,
    chunks,
    l2_grid,
    one_thread_for_scipy,
    principal_axes,
    strongest_of_the_best,
)
from restune.training.objective import task_loss

_EXACT = {"ftol": 1e-10, "gtol": 1e-6}
_MOST_ITERATIONS = 1000


@dataclass(frozen=True, kw_only=True)
class LabelProblem:
    """A problem of several logistic regressions, or of ridge regression.

    Args:
        task: ``multi-label`` or ``regression``.
        rows: features ``[N, D]``, float32.
        targets: ``[N, C]``: 0 or 1 (or near to them, with label smoothing), or numbers of mean 0 and deviation 1.
        loss: that strengths are compared by: see `task_loss`.
    """

    task: str
    rows: Rows
    targets: Tensor
    loss: str

    def fit(self, axes: Axes, grid: Sequence[float]) -> Iterator[Head]:
        """Yield the optimum of each strength, strongest first."""
        return _logistic(self, axes, grid) if self.task == "multi-label" else _ridge(self, axes, grid)


def choose_label_head(
    problem: LabelProblem, held_out: tuple[Rows, Tensor] | None, groups: NDArray[np.int64], seed: int
) -> Choice:
    """Choose the L2 strength by the loss on validation items, or by cross-validation, and return the head.

    Args:
        held_out: features and targets of validation items; None: cross-validation in five folds.
        groups: ``[N]``; rows of one group (the views of an item) are in the same fold.
        seed: of the folds.
    """
    axes = principal_axes(problem.rows)
    grid = l2_grid(axes)
    if held_out is not None:
        heads = list(problem.fit(axes, grid))
        losses = [label_loss(head, *held_out, problem.loss) for head in heads]
        best = strongest_of_the_best(losses)
        return Choice(head=heads[best], how="validation", tried=tuple(zip(grid, losses, strict=True)))
    losses, folds = _by_folds(problem, grid, groups, seed)
    best = strongest_of_the_best(losses)
    *_, head = problem.fit(axes, grid[: best + 1])
    return Choice(head=head, how=f"{folds}-fold cross-validation", tried=tuple(zip(grid, losses, strict=True)))


def _by_folds(
    problem: LabelProblem, grid: Sequence[float], groups: NDArray[np.int64], seed: int
) -> tuple[list[float], int]:
    from sklearn.model_selection import GroupKFold

    rows = torch.cat([part for _, part in chunks(problem.rows)])
    folds = max(2, min(5, len(np.unique(groups))))
    losses = np.zeros(len(grid))
    split = GroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    for inside, outside in split.split(np.zeros(len(groups)), groups=groups):
        part = LabelProblem(
            task=problem.task, rows=rows[inside], targets=problem.targets[inside], loss=problem.loss
        )  # fmt: skip
        for place, head in enumerate(part.fit(principal_axes(rows[inside]), grid)):
            losses[place] += label_loss(head, rows[outside], problem.targets[outside], problem.loss) / folds
    return losses.tolist(), folds


def label_loss(head: Head, rows: Rows, targets: Tensor, loss: str) -> float:
    """Return the mean loss of a head on rows ``[N, D]``."""
    return float(task_loss(label_outputs(head, rows), targets, loss))


def label_outputs(head: Head, rows: Rows) -> Tensor:
    """Return a head's outputs ``[N, C]`` for rows ``[N, D]``."""
    return torch.cat([head.logits(part) for _, part in chunks(rows)])


def _turned(problem: LabelProblem, axes: Axes) -> Tensor:
    """Return the rows along the features' principal axes ``[N, R]``."""
    return torch.cat([(part - axes.center) @ axes.axes for _, part in chunks(problem.rows)])


def _head(axes: Axes, inner: Tensor, bias: Tensor, l2: float, loss: float, iterations: int) -> Head:
    """Build a head from weights along the axes ``[C, R]`` and the bias at the features' mean, float64."""
    weight = inner @ axes.axes.double().T
    return Head(
        weight=weight.float(),
        bias=(bias - weight @ axes.center.double()).float(),
        l2=l2,
        loss=loss,
        iterations=iterations,
    )


def _ridge(problem: LabelProblem, axes: Axes, grid: Sequence[float]) -> Iterator[Head]:
    """Solve ridge regression exactly: along the principal axes it divides by variance plus strength."""
    rows, targets = _turned(problem, axes).double(), problem.targets.double()
    bias = targets.mean(0)
    products = (targets - bias).T @ (rows - rows.mean(0)) / len(rows)  # [C, R]
    for l2 in grid:
        inner = products / (axes.variances + l2)
        errors = targets - bias - (rows - rows.mean(0)) @ inner.T
        loss = float(errors.square().sum(1).mean() / 2 + l2 / 2 * inner.square().sum())
        yield _head(axes, inner, bias, l2, loss, 1)


def _logistic(problem: LabelProblem, axes: Axes, grid: Sequence[float]) -> Iterator[Head]:
    """Fit all labels at once by L-BFGS, each strength from the optimum of the one before."""
    from scipy.optimize import minimize

    rows, targets = _turned(problem, axes), problem.targets.float()
    labels, width = targets.shape[1], rows.shape[1]
    shares = targets.double().mean(0).clamp(1e-4, 1 - 1e-4)
    inner, bias = torch.zeros(labels, width, dtype=torch.float64), torch.logit(shares)
    curvature = (shares * (1 - shares))[:, None] * axes.variances  # [C, R]
    for l2 in grid:
        scale = (curvature + l2).rsqrt()
        start = torch.cat([(inner / scale).reshape(-1), bias / 2]).numpy()

        def evaluate(point: NDArray[np.float64], l2: float = l2, scale: Tensor = scale) -> tuple[float, Any]:
            values = torch.from_numpy(point)
            weight, offset = values[:-labels].view(labels, width) * scale, values[-labels:] * 2
            logits = F.linear(rows, weight.float(), offset.float())
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum").double() / len(rows)
            slope = (logits.sigmoid() - targets) / len(rows)
            grad = ((slope.T @ rows).double() + l2 * weight) * scale
            total = float(loss + l2 / 2 * weight.square().sum())
            return total, torch.cat([grad.reshape(-1), slope.double().sum(0) * 2]).numpy()

        with one_thread_for_scipy():
            options = {"maxcor": 20, "maxiter": _MOST_ITERATIONS, "maxfun": 2 * _MOST_ITERATIONS, **_EXACT}
            optimum = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
        values = torch.from_numpy(optimum.x)
        inner, bias = values[:-labels].view(labels, width) * scale, values[-labels:] * 2
        yield _head(axes, inner, bias, l2, float(optimum.fun), int(optimum.nit))
