"""Counts and what follows from them: accuracy with its interval, per-class scores, the confusion matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Z_95 = 1.959963984540054
"""The normal distribution's 97.5% point: 95% lie within it on both sides."""


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927): holds at 0% and 100% and for small n. (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + Z_95**2 / (2 * n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n))
    scale = 1 + Z_95**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class's scores; None where there is nothing to divide by.

    Args:
        n: items of this class.
        predicted: items that the model gave this class.
        precision: of those predicted, the share that are.
        recall: of those that are, the share predicted: the class's accuracy.
        interval: the recall's 95% Wilson interval.
        f1: harmonic mean of precision and recall.
    """

    n: int
    predicted: int
    precision: float | None
    recall: float | None
    interval: tuple[float, float]
    f1: float | None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {**self.__dict__, "interval": list(self.interval)}


@dataclass(frozen=True)
class ClipCount:
    """Clips of videos, each scored alone. A video's clips are no independent samples, so this has no interval.

    Args:
        n: clips.
        correct: those whose most probable class is their video's.
    """

    n: int = 0
    correct: int = 0

    def plus(self, logits: Tensor, targets: list[int]) -> ClipCount:
        """With more videos counted: logits ``[N, clips, classes]`` and a class each."""
        hits = logits.argmax(dim=2) == torch.tensor(targets)[:, None]
        return ClipCount(self.n + hits.numel(), self.correct + int(hits.sum()))

    @property
    def accuracy(self) -> float:
        """Share of clips that are right."""
        return self.correct / self.n

    def to_dict(self) -> dict[str, Any]:
        """What results say of clips."""
        return {"accuracy": self.accuracy, "n": self.n}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model scored on some data.

    Args:
        classes: names, in the order of the confusion matrix.
        confusion: counts ``[true, predicted]``.
        top5_correct: items whose class is among the five most probable; None with five classes or fewer, where
            it would say nothing.
        ids, targets, predicted, probabilities: one entry an item, in order: what it is, what the model said,
            and how sure it was.
        skipped: items that could not be read, with the reason.
        model, data: what was evaluated on what.
        fingerprint: of the data.
        seconds: it took, reading included.
        clips: of videos, the score of single clips; every other figure counts videos.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    top5_correct: int | None
    ids: tuple[str, ...]
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    skipped: tuple[tuple[str, str], ...] = ()
    model: str = ""
    data: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    clips: ClipCount | None = None

    @property
    def n(self) -> int:
        """Items scored."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Items whose most probable class is theirs."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of items that are right."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95% Wilson interval."""
        return wilson_interval(self.correct, self.n)

    @property
    def top5(self) -> float | None:
        """Share of items whose class is among the five most probable."""
        return None if self.top5_correct is None else self.top5_correct / self.n

    @property
    def top5_interval(self) -> tuple[float, float] | None:
        """Top-5's 95% Wilson interval."""
        return None if self.top5_correct is None else wilson_interval(self.top5_correct, self.n)

    @property
    def per_class(self) -> dict[str, ClassScores]:
        """Scores of each class by name."""
        hits = np.diag(self.confusion)
        actual, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return {
            name: _class_scores(int(hits[i]), int(actual[i]), int(predicted[i])) for i, name in enumerate(self.classes)
        }

    def to_dict(self) -> dict[str, Any]:
        """What ``restune evaluate --json`` prints."""
        return {
            "accuracy": self.accuracy,
            "n": self.n,
            "interval": list(self.interval),
            "top5": self.top5,
            "top5_interval": None if self.top5_interval is None else list(self.top5_interval),
            "classes": list(self.classes),
            "per_class": {name: scores.to_dict() for name, scores in self.per_class.items()},
            "confusion": self.confusion.tolist(),
            "skipped": [{"item": item, "reason": reason} for item, reason in self.skipped],
            "model": self.model,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "seconds": round(self.seconds, 3),
            **({} if self.clips is None else {"clips": self.clips.to_dict()}),
        }


@dataclass
class Counter:
    """Gathers an `Evaluation` batch by batch; its memory grows by a few numbers an item, not by logits."""

    classes: tuple[str, ...]
    _ids: list[str] = field(default_factory=list)
    _targets: list[Tensor] = field(default_factory=list)
    _predicted: list[Tensor] = field(default_factory=list)
    _probabilities: list[Tensor] = field(default_factory=list)
    _top5: int = 0

    def add(self, ids: list[str], targets: list[int], logits: Tensor) -> None:
        """Count some items: their ids, classes, and logits ``[N, C]``."""
        target = torch.tensor(targets, dtype=torch.int64)
        probability, predicted = logits.softmax(dim=1).max(dim=1)
        self._ids.extend(ids)
        self._targets.append(target)
        self._predicted.append(predicted)
        self._probabilities.append(probability)
        if len(self.classes) > 5:
            self._top5 += int((logits.topk(5, dim=1).indices == target[:, None]).sum())

    def evaluation(self, **about: Any) -> Evaluation:
        """The scores so far; `about` fills the fields that say what was evaluated on what."""
        targets = torch.cat(self._targets).numpy()
        predicted = torch.cat(self._predicted).numpy()
        count = len(self.classes)
        confusion = np.bincount(targets * count + predicted, minlength=count * count).reshape(count, count)
        return Evaluation(
            classes=self.classes,
            confusion=confusion.astype(np.int64, copy=False),
            top5_correct=self._top5 if count > 5 else None,
            ids=tuple(self._ids),
            targets=targets,
            predicted=predicted,
            probabilities=torch.cat(self._probabilities).numpy(),
            **about,
        )


def _class_scores(hits: int, n: int, predicted: int) -> ClassScores:
    return ClassScores(
        n=n,
        predicted=predicted,
        precision=hits / predicted if predicted else None,
        recall=hits / n if n else None,
        interval=wilson_interval(hits, n),
        f1=2 * hits / (n + predicted) if n + predicted else None,
    )
