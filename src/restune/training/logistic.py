"""The head on frozen features as what it is: a convex problem, solved to its optimum instead of stepped toward it.

Multinomial logistic regression with an L2 penalty on the weights, not on the bias (scikit-learn's
`LogisticRegression`, whose C is ``1 / (l2 * sum of item weights)``). Minimised by scipy's L-BFGS in coordinates that
make the problem round: the features' principal axes, each scaled by the curvature there. A change of coordinates moves
no optimum, but takes the iterations from hundreds to tens.
"""

from __future__ import annotations

import copy
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
"""Of features that are in memory at a time where they come from disk."""
_MOST_ITERATIONS = 1000
_EXACT = {"ftol": 1e-9, "gtol": 1e-6}
"""Where L-BFGS stops; float32 rows allow little more."""
_ROUGH = {"ftol": 1e-7, "gtol": 1e-5}
"""Enough to compare strengths by."""
_PATIENCE = 4
_TOLERANCE = 0.01


class Rows(Protocol):
    """Features that are in memory or come from disk: a tensor ``[N, D]`` is one."""

    @property
    def shape(self) -> Sequence[int]: ...

    def __getitem__(self, part: slice) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What the head is to fit.

    Args:
        rows: features ``[N, D]``, float32.
        targets: class indices ``[N]``.
        classes: how many.
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
    """A solution.

    Args:
        weight: ``[classes, D]``.
        bias: ``[classes]``.
        l2: the strength it is the optimum for.
        loss: the objective there, penalty included.
        iterations: of L-BFGS.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    loss: float
    iterations: int

    def logits(self, features: Tensor) -> Tensor:
        """``[N, D] -> [N, classes]``."""
        return F.linear(features, self.weight, self.bias)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The features' centre ``[D]``, principal axes ``[D, R]`` and variances along them ``[R]``."""

    center: Tensor
    axes: Tensor
    variances: Tensor


def chunks(rows: Rows) -> Iterator[tuple[int, Tensor]]:
    """Parts of the rows that fit in memory, each with the number of its first row."""
    count, width = rows.shape
    size = count if isinstance(rows, Tensor) else max(1, CHUNK_BYTES // (4 * width))
    for start in range(0, count, size):
        yield start, rows[start : start + size]


def principal_axes(rows: Rows) -> Axes:
    """From one pass over the rows; with fewer rows than features, from the rows' own products."""
    count, width = rows.shape
    total = torch.zeros(width, dtype=torch.float64)
    for _, part in chunks(rows):
        total += part.sum(0, dtype=torch.float64)
    center = (total / count).float()
    if count < width:
        centred = torch.cat([part for _, part in chunks(rows)]) - center
        values, vectors = torch.linalg.eigh((centred @ centred.T).double() / count)
        kept = values > values[-1].clamp_min(1e-30) * 1e-7
        axes = (centred.T.double() @ vectors[:, kept]) / (values[kept] * count).sqrt()
        return Axes(center=center, axes=axes.float(), variances=values[kept])
    products = torch.zeros(width, width, dtype=torch.float64)
    for _, part in chunks(rows):
        centred = part - center
        products += (centred.T @ centred).double()
    values, vectors = torch.linalg.eigh(products / count)
    return Axes(center=center, axes=vectors.float(), variances=values.clamp_min(0))


def l2_grid(axes: Axes) -> list[float]:
    """Strengths to try, strongest first: two a decade, from 100 times the features' mean variance down."""
    scale = float(axes.variances.sum()) / axes.center.numel()
    return [max(scale, 1e-12) * 10.0**power for power in np.arange(2, -9.1, -0.5)]


def solve(problem: Problem, l2: float, *, axes: Axes | None = None, start: Head | None = None) -> Head:
    """The optimum of ``mean loss + l2 / 2 * |weight|^2``.

    Args:
        problem: features and targets; the mean is over items, weighted by `class_weights`, as torch's
            ``cross_entropy`` takes it.
        l2: above 0.
        axes: of these features or of ones like them, where already known.
        start: a solution nearby, such as that of another strength.
    """
    return Solver(problem, axes).solve(l2, start)


def _one_thread_for_scipy() -> AbstractContextManager[None]:
    """Vectors this short gain nothing by threads, and two pools that spin take the cores from each other."""
    return _scipy_threads.wanted()


def _limit_scipy() -> Callable[[], None]:
    limited = ExitStack()
    limited.enter_context(_scipy_pools().limit(limits=1))
    return limited.close


_scipy_threads = SharedSetting(_limit_scipy)  # its pool is the whole process's


@cache
def _scipy_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    pools = ThreadpoolController()
    return pools.select(
        filepath=[pool.filepath for pool in pools.lib_controllers if "scipy" in Path(pool.filepath).name]
    )


class Solver:
    """Solves one problem for any strength.

    Args:
        problem: what to fit.
        axes: of its features or of ones like them; taken from them where not known.
    """

    def __init__(self, problem: Problem, axes: Axes | None = None) -> None:
        self.axes = axes or principal_axes(problem.rows)
        rows = problem.rows
        # In memory the rows are turned to their axes once; from disk the weights are turned at every evaluation.
        self.is_turned = isinstance(rows, Tensor)
        self.rows = (rows - self.axes.center) @ self.axes.axes if isinstance(rows, Tensor) else rows
        self._pose(problem)

    def varied(self, *, class_weights: Tensor | None = None, smoothing: float = 0.0) -> Solver:
        """A solver of the same rows and targets with other weights or smoothing; what is known of the rows is kept."""
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
        """Near the optima of several strengths, each begun at the one before."""
        head: Head | None = None
        for l2 in grid:
            head = self.solve(l2, head, _ROUGH)
            yield head

    def solve(self, l2: float, start: Head | None = None, stop: Mapping[str, float] = _EXACT) -> Head:
        """The optimum at one strength, begun at a solution nearby."""
        from scipy.optimize import minimize

        scale = (self.axes.variances / self.problem.classes + l2).rsqrt()
        with _one_thread_for_scipy():
            found = minimize(
                lambda point: self._evaluate(point, scale, l2),
                self._coordinates(start, scale),
                jac=True,
                method="L-BFGS-B",
                options={"maxcor": 20, "maxiter": _MOST_ITERATIONS, "maxfun": 2 * _MOST_ITERATIONS, **stop},
            )
        inner, bias = self._split(found.x, scale)
        weight = inner @ self.axes.axes.double().T
        return Head(
            weight=weight.float(),
            bias=(bias - weight @ self.axes.center.double()).float(),
            l2=l2,
            loss=float(found.fun),
            iterations=int(found.nit),
        )

    def _evaluate(self, point: NDArray[np.float64], scale: Tensor, l2: float) -> tuple[float, NDArray[np.float64]]:
        """Loss and gradient in round coordinates: weights along the axes over `scale`, bias about the centre."""
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
        """Mean loss and its gradients, over the rows in chunks. With smoothing s, item i's targets are
        ``weights[c] * (s / classes + (1 - s) * [c = target])``."""
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
        """Weights along the axes ``[classes, R]`` and bias about the centre ``[classes]``."""
        classes = self.problem.classes
        numbers = torch.from_numpy(point)
        return numbers[:-classes].view(classes, -1) * scale, numbers[-classes:] * self._bias_scale

    def _coordinates(self, head: Head | None, scale: Tensor) -> NDArray[np.float64]:
        """Where a head is; the origin for none."""
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
    """Which strength was chosen, and from what.

    Args:
        head: solved on all training rows at the chosen strength.
        how: ``validation`` or ``5-fold cross-validation``.
        tried: strength, and the mean loss there of items that were not fitted.
    """

    head: Head
    how: str
    tried: tuple[tuple[float, float], ...]

    @property
    def least_loss(self) -> float:
        """Of items that were not fitted, over all strengths."""
        return min(loss for _strength, loss in self.tried)


def choose_on_validation(problem: Problem, rows: Rows, targets: Tensor) -> Choice:
    """The head of the strength that `strongest_of_the_best` picks by loss on validation rows. From the strongest on,
    the search ends when several in a row were no better than the best."""
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
    """The first, and so most penalised, whose loss is within a hundredth (or 0.001) of the least: weights no larger
    than they need be, from which thawing can start."""
    most = min(losses) * (1 + _TOLERANCE) + 0.001
    return next(index for index, loss in enumerate(losses) if loss <= most)


def choose_by_folds(problem: Problem, groups: NDArray[np.int64], seed: int) -> Choice:
    """The head whose strength gives the least loss in cross-validation, solved on all rows.

    Args:
        problem: its rows are taken into memory.
        groups: ``[N]``; rows of one group (the views of an item) are on the same side.
        seed: of the folds.
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
    for fitted, held in split.split(items, targets[first]):
        inside, outside = (torch.from_numpy(np.isin(groups, items[side])) for side in (fitted, held))
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
    """Mean cross-entropy of a head on rows ``[N, D]``."""
    total = sum(
        float(F.cross_entropy(head.logits(part), targets[start : start + len(part)], reduction="sum"))
        for start, part in chunks(rows)
    )
    return total / len(targets)
