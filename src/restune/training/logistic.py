"""Multinomial logistic regression on frozen features, fitted to its optimum by L-BFGS.

The L2 penalty applies to the weights, not to the bias (as in scikit-learn's `LogisticRegression`, where C is
``1 / (l2 * sum of item weights)``). scipy's L-BFGS runs in preconditioned coordinates: the features' principal axes,
each scaled by the curvature along it. This leaves the optimum unchanged and needs tens of iterations instead of
hundreds.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restune.core.shared_setting import SharedSetting

CHUNK_BYTES = 64 * 2**20
"""Size of the chunks in which features are read from disk."""
_MOST_ITERATIONS = 1000
_EXACT = {"ftol": 1e-9, "gtol": 1e-6}
"""Stopping tolerances of L-BFGS; float32 rows hardly allow smaller ones."""
_ROUGH = {"ftol": 1e-7, "gtol": 1e-5}
"""Tolerances for comparing L2 strengths."""
_PATIENCE = 4
_TOLERANCE = 0.01


class Rows(Protocol):
    """Features in memory or on disk; a tensor ``[N, D]`` is one."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, part: slice) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A logistic regression problem.

    Args:
        rows: features ``[N, D]``, float32.
        targets: class indices ``[N]``.
        classes: number of classes.
        class_weights: ``[classes]``; None: all 1.
        smoothing: label smoothing (Szegedy et al. 2016).
    """

    rows: Rows
    targets: Tensor
    classes: int
    class_weights: Tensor | None = None
    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Head:
    """A fitted head.

    Args:
        weight: ``[classes, D]``.
        bias: ``[classes]``.
        l2: its L2 strength.
        loss: value of the objective, penalty included.
        iterations: iterations of L-BFGS.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    loss: float
    iterations: int

    def logits(self, features: Tensor) -> Tensor:
        """Return logits: ``[N, D] -> [N, classes]``."""
        return F.linear(features, self.weight, self.bias)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The features' mean ``[D]``, principal axes ``[D, R]`` and variances along them ``[R]``."""

    center: Tensor
    axes: Tensor
    variances: Tensor


def chunks(rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Yield chunks of the rows that fit in memory, each with the index of its first row."""
    count, width = rows.shape
    size = count if isinstance(rows, Tensor) else max(1, CHUNK_BYTES // (4 * width))
    for start in range(0, count, size):
        yield start, rows[start : start + size]


def principal_axes(rows: Rows) -> Axes:
    """Compute the principal axes from the covariance matrix, or from the Gram matrix if it is smaller."""
    count, width = rows.shape
    total = torch.zeros(width, dtype=torch.float64)
    for _, part in chunks(rows):
        total += part.sum(0, dtype=torch.float64)
    center = (total / count).float()
    if count < width:
        centred = torch.cat([part for _, part in chunks(rows)]) - center
        values, vectors = torch.linalg.eigh((centred @ centred.T).double() / count)
        nonzero = values > values[-1].clamp_min(1e-30) * 1e-7
        axes = (centred.T.double() @ vectors[:, nonzero]) / (values[nonzero] * count).sqrt()
        return Axes(center=center, axes=axes.float(), variances=values[nonzero])
    products = torch.zeros(width, width, dtype=torch.float64)
    for _, part in chunks(rows):
        centred = part - center
        products += (centred.T @ centred).double()
    values, vectors = torch.linalg.eigh(products / count)
    return Axes(center=center, axes=vectors.float(), variances=values.clamp_min(0))


def l2_grid(axes: Axes) -> list[float]:
    """Return L2 strengths to try, strongest first: two per decade, down from 100 times the features' mean variance."""
    scale = float(axes.variances.sum()) / axes.center.numel()
    return [max(scale, 1e-12) * 10.0**power for power in np.arange(2, -9.1, -0.5)]


def solve(problem: Problem, l2: float, *, axes: Axes | None = None, start: Head | None = None) -> Head:
    """Fit a head by minimising ``mean loss + l2 / 2 * |weight|^2``.

    Args:
        problem: features and targets; the mean is over items, weighted by `class_weights`, as in torch's
            ``cross_entropy``.
        l2: L2 strength, above 0.
        axes: principal axes of these or similar features, if known.
        start: starting point, such as the head of a similar strength.
    """
    return Solver(problem, axes).solve(l2, start)


def one_thread_for_scipy() -> AbstractContextManager[None]:
    """Limit scipy to one thread: vectors this short do not profit from more, and its spinning threads slow torch's."""
    return _scipy_threads.wanted()


def _limit_scipy() -> Callable[[], None]:
    limited = ExitStack()
    limited.enter_context(_scipy_pools().limit(limits=1))
    return limited.close


_scipy_threads = SharedSetting(_limit_scipy)  # scipy's thread pool belongs to the whole process


@cache
def _scipy_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    pools = ThreadpoolController()
    return pools.select(
        filepath=[pool.filepath for pool in pools.lib_controllers if "scipy" in Path(pool.filepath).name]
    )


class Solver:
    """Fits heads of one problem at any L2 strength.

    Args:
        problem: features and targets.
        axes: principal axes of these or similar features; None: computed.
    """

    def __init__(self, problem: Problem, axes: Axes | None = None) -> None:
        self.axes = axes or principal_axes(problem.rows)
        rows = problem.rows
        # Rows in memory are rotated to the axes once; for rows on disk, the weights are rotated at every evaluation.
        self.is_turned = isinstance(rows, Tensor)
        self.rows = (rows - self.axes.center) @ self.axes.axes if isinstance(rows, Tensor) else rows
        self._pose(problem)

    def varied(self, *, class_weights: Tensor | None = None, smoothing: float = 0.0) -> Solver:
        """Return a solver with other weights or smoothing that shares rows, targets, axes and rotated rows."""
        other = copy.copy(self)
        other._pose(replace(self.problem, class_weights=class_weights, smoothing=smoothing))
        return other

    def _pose(self, problem: Problem) -> None:
        self.problem = problem
        ones = torch.ones(problem.classes)
        self.weights = ones if problem.class_weights is None else problem.class_weights.float().cpu()
        self.everywhere = self.weights * (problem.smoothing / problem.classes)
        self.own = self.weights[problem.targets] * (1 - problem.smoothing)  # [N]
        self.total = float(self.weights[problem.targets].sum(dtype=torch.float64))

    def path(self, grid: Sequence[float]) -> Iterator[Head]:
        """Yield approximate optima of several strengths, each started at the previous one."""
        head: Head | None = None
        for l2 in grid:
            head = self.solve(l2, head, _ROUGH)
            yield head

    def solve(self, l2: float, start: Head | None = None, stop: Mapping[str, float] = _EXACT) -> Head:
        """Fit the head at one strength, starting from another head if given."""
        from scipy.optimize import minimize

        scale = (self.axes.variances / self.problem.classes + l2).rsqrt()
        with one_thread_for_scipy():
            optimum = minimize(
                lambda point: self._evaluate(point, scale, l2),
                self._coordinates(start, scale),
                jac=True,
                method="L-BFGS-B",
                options={"maxcor": 20, "maxiter": _MOST_ITERATIONS, "maxfun": 2 * _MOST_ITERATIONS, **stop},
            )
        inner, bias = self._split(optimum.x, scale)
        weight = inner @ self.axes.axes.double().T
        return Head(
            weight=weight.float(),
            bias=(bias - weight @ self.axes.center.double()).float(),
            l2=l2,
            loss=float(optimum.fun),
            iterations=int(optimum.nit),
        )

    def _evaluate(self, point: NDArray[np.float64], scale: Tensor, l2: float) -> tuple[float, NDArray[np.float64]]:
        """Return loss and gradient in preconditioned coordinates: weights along the axes over `scale`, bias at the
        features' mean."""
        inner, bias = self._split(point, scale)
        if self.is_turned:
            loss, grad, grad_bias = self._loss(inner.float(), bias.float())
        else:
            weight = inner.float() @ self.axes.axes.T
            loss, whole, grad_bias = self._loss(weight, (bias - weight.double() @ self.axes.center.double()).float())
            grad = (whole - grad_bias[:, None] * self.axes.center.double()) @ self.axes.axes.double()
        loss += l2 / 2 * float(inner.square().sum())
        grad = (grad + l2 * inner) * scale
        return loss, torch.cat([grad.reshape(-1), grad_bias * self._bias_scale]).numpy()

    def _loss(self, weight: Tensor, bias: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the mean loss and its gradients, accumulated over chunks of rows. With smoothing s, item i's targets
        are ``weights[c] * (s / classes + (1 - s) * [c = target])``."""
        total = 0.0
        grad_weight = torch.zeros_like(weight, dtype=torch.float64)
        grad_bias = torch.zeros_like(bias, dtype=torch.float64)
        spread = self.everywhere.sum()
        for start, part in chunks(self.rows):
            targets = self.problem.targets[start : start + len(part), None]
            own = self.own[start : start + len(part)]
            mass = own + spread
            logits = F.linear(part, weight, bias)
            normalizer = logits.logsumexp(1)
            expected = logits.gather(1, targets)[:, 0] * own
            if self.problem.smoothing:
                expected = expected + logits @ self.everywhere
            total += float((mass * normalizer - expected).sum(dtype=torch.float64))
            grad = torch.exp(logits - normalizer[:, None]).mul_(mass[:, None]).sub_(self.everywhere)
            grad.scatter_add_(1, targets, -own[:, None])
            grad_weight += grad.T @ part
            grad_bias += grad.sum(0, dtype=torch.float64)
        return total / self.total, grad_weight / self.total, grad_bias / self.total

    def _split(self, point: NDArray[np.float64], scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights along the axes ``[classes, R]`` and the bias at the features' mean ``[classes]``."""
        classes = self.problem.classes
        values = torch.from_numpy(point)
        return values[:-classes].view(classes, -1) * scale, values[-classes:] * self._bias_scale

    def _coordinates(self, head: Head | None, scale: Tensor) -> NDArray[np.float64]:
        """Return a head's preconditioned coordinates; zeros for None."""
        if head is None:
            return np.zeros(self.problem.classes * (len(scale) + 1))
        inner = head.weight.double() @ self.axes.axes.double() / scale
        bias = (head.bias.double() + head.weight.double() @ self.axes.center.double()) / self._bias_scale
        return torch.cat([inner.reshape(-1), bias]).numpy()

    @property
    def _bias_scale(self) -> float:
        return float(self.problem.classes**0.5)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen L2 strength and its head.

    Args:
        head: head fitted on all training rows at the chosen strength.
        how: ``validation`` or ``5-fold cross-validation``.
        tried: (strength, mean held-out loss) pairs.
    """

    head: Head
    how: str
    tried: tuple[tuple[float, float], ...]

    @property
    def least_loss(self) -> float:
        """Lowest held-out loss over all strengths."""
        return min(loss for _strength, loss in self.tried)


def choose_on_validation(problem: Problem, rows: Rows, targets: Tensor) -> Choice:
    """Choose the L2 strength by validation loss and return its head. The search goes from the strongest to the weakest
    and ends after `_PATIENCE` strengths without improvement; `strongest_of_the_best` then selects."""
    solver = Solver(problem)
    heads: list[Head] = []
    losses: list[float] = []
    for head in solver.path(l2_grid(solver.axes)):
        heads.append(head)
        losses.append(mean_loss(head, rows, targets))
        if len(losses) > _PATIENCE and min(losses[-_PATIENCE:]) > (1 - _TOLERANCE / 10) * min(losses[:-_PATIENCE]):
            break
    best = heads[strongest_of_the_best(losses)]
    tried = tuple(zip((head.l2 for head in heads), losses, strict=True))
    return Choice(head=solver.solve(best.l2, best), how="validation", tried=tried)


def strongest_of_the_best(losses: Sequence[float]) -> int:
    """Return the index of the strongest penalty whose loss is within 1% plus 0.001 of the lowest: small weights are a
    good start for unfreezing."""
    most = min(losses) * (1 + _TOLERANCE) + 0.001
    return next(index for index, loss in enumerate(losses) if loss <= most)


def choose_by_folds(problem: Problem, groups: NDArray[np.int64], seed: int) -> Choice:
    """Choose the L2 strength by cross-validation and fit its head on all rows.

    Args:
        problem: features and targets; the rows are loaded into memory.
        groups: ``[N]``; rows of one group (the views of an item) are in the same fold.
        seed: seed of the folds.
    """
    from sklearn.model_selection import StratifiedKFold

    rows = torch.cat([part for _, part in chunks(problem.rows)])
    axes = principal_axes(rows)
    grid = l2_grid(axes)
    items, first = np.unique(groups, return_index=True)
    targets = problem.targets.numpy()
    folds = max(2, min(5, int(np.bincount(targets[first])[np.unique(targets)].min())))
    losses = np.zeros(len(grid))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # a class of one item is in one fold
        parts = list(split.split(items, targets[first]))
    for fitted, held in parts:
        inside, outside = (torch.from_numpy(np.isin(groups, items[part])) for part in (fitted, held))
        part = replace(problem, rows=rows[inside], targets=problem.targets[inside])
        for position, head in enumerate(Solver(part, axes).path(grid)):
            losses[position] += mean_loss(head, rows[outside], problem.targets[outside]) / folds
    best = strongest_of_the_best(losses.tolist())
    solver = Solver(replace(problem, rows=rows), axes)
    *_, head = solver.path(grid[: best + 1])
    return Choice(
        head=solver.solve(head.l2, head),
        how=f"{folds}-fold cross-validation",
        tried=tuple(zip(grid, losses.tolist(), strict=True)),
    )


def mean_loss(head: Head, rows: Rows, targets: Tensor) -> float:
    """Return the mean cross-entropy of a head on rows ``[N, D]``."""
    total = sum(
        float(F.cross_entropy(head.logits(part), targets[start : start + len(part)], reduction="sum"))
        for start, part in chunks(rows)
    )
    return total / len(targets)
