"""The items to look at first: the worst mistakes of an evaluation and its most uncertain predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.evaluation.evaluation import Evaluation
from restune.evaluation.logits import chunks


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An item to look at.

    Args:
        position: in the evaluation.
        why: ``mistake`` or ``uncertain``.
        true, predicted: class indices.
        probability: of the predicted class.
        true_probability: of the true class.
        runner_up: class index of the second most probable class.
    """

    position: int
    why: str
    true: int
    predicted: int
    probability: float
    true_probability: float
    runner_up: int


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """An item and its prediction, by name.

    Args:
        id: of the item.
        label, label_probability: its true class, and the probability of that class.
        predicted, probability: the most probable class and its probability.
        runner_up: the second most probable class.
    """

    id: str
    label: str
    label_probability: float
    predicted: str
    probability: float
    runner_up: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def named(evaluation: Evaluation, shown: Sequence[Shown]) -> list[ScoredItem]:
    """Return items to look at with their ids and the names of their classes."""
    classes = evaluation.classes
    return [
        ScoredItem(
            id=evaluation.ids[one.position],
            label=classes[one.true],
            label_probability=one.true_probability,
            predicted=classes[one.predicted],
            probability=one.probability,
            runner_up=classes[one.runner_up],
        )
        for one in shown
    ]


def to_look_at(evaluation: Evaluation, mistakes: int = 36, uncertain: int = 12) -> list[Shown]:
    """Return the worst mistakes, the least probable true class first, then the most uncertain of the other items.

    Args:
        mistakes, uncertain: the most items of each sort.

    Ties are ordered by position, so the same evaluation gives the same items.
    """
    temperature = 1.0 if evaluation.calibration is None else evaluation.calibration.temperature
    log_true, margin, runner_up = _measures(evaluation, temperature)
    wrong = np.flatnonzero(evaluation.predicted != evaluation.targets)
    worst = wrong[np.argsort(log_true[wrong], kind="stable")][:mistakes]
    others = np.setdiff1d(np.arange(evaluation.n), worst)
    closest = others[np.argsort(margin[others], kind="stable")][:uncertain]
    return [
        Shown(
            position=position,
            why=why,
            true=int(evaluation.targets[position]),
            predicted=int(evaluation.predicted[position]),
            probability=float(evaluation.probabilities[position]),
            true_probability=float(np.exp(log_true[position])),
            runner_up=int(runner_up[position]),
        )
        for why, positions in (("mistake", worst), ("uncertain", closest))
        for position in positions.tolist()
    ]


def _measures(
    evaluation: Evaluation, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the log probability of each item's class, the margin of the two most probable ones, and the second."""
    parts = [_of_chunk(*part) for part in _chunks(evaluation, temperature)]
    log_true, margin, runner_up = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return log_true, margin, runner_up


def _chunks(evaluation: Evaluation, temperature: float) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    rows = 0
    for part in chunks(evaluation.logits):
        yield np.array(part, np.float64) / temperature, evaluation.targets[rows : rows + len(part)]
        rows += len(part)


def _of_chunk(
    logits: NDArray[np.float64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(targets))
    if logits.shape[1] < 2:
        return log_probabilities[rows, targets], np.ones(len(targets)), np.zeros(len(targets), np.int64)
    order = np.argpartition(-log_probabilities, 1, axis=1)[:, :2]
    probabilities = np.exp(np.take_along_axis(log_probabilities, order, axis=1))
    return log_probabilities[rows, targets], probabilities[:, 0] - probabilities[:, 1], order[:, 1]
