"""The evaluation of a model on a data set: logits and targets of every item, and the scores computed from them."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.core.files import user_path
from restune.evaluation.logits import Column, EmbeddingBuffer, LogitsBuffer, chunks, read_array, write_arrays
from restune.evaluation.measures import Measures
from restune.evaluation.metrics import (
    ClassScores,
    ClipCount,
    balanced_scores,
    class_scores,
    confused_pairs,
    confusion_matrix,
    wilson_interval,
)
from restune.evaluation.novelty import NoveltyResult
from restune.inference.forward import probabilities
from restune.weights.calibration import Calibration

if TYPE_CHECKING:
    from restune.evaluation.compare import Comparison
    from restune.evaluation.mistakes import ScoredItem
    from restune.evaluation.slices import Slice

_LARGEST_MATRIX = 2_000
"""Number of classes up to which JSON has the whole confusion matrix; with more, it has the nonzero entries."""
_PAIRS = 20
"""Number of confused pairs that JSON lists by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The scores of a model on a data set.

    Args:
        classes: names, in the order of the logits.
        ids: of the items, in order.
        targets: class indices ``[N]``.
        logits: float32 ``[N, C]``; for several views the logarithm of their mean probability; a memory map if large.
        predicted: the most probable class of each item ``[N]``.
        probabilities: of that class ``[N]``, after calibration.
        top5_correct: number of items whose class is among the five most probable; None for five classes or fewer.
        skipped: items that could not be read, with the reason.
        model, data: source of the model and of the data.
        fingerprint: of the data.
        seconds: time taken, including reading.
        clips: for videos, the score of single clips; all other scores count videos.
        embeddings: inputs of the last layer, float32 ``[N, F]``, of several views their mean; a memory map if large.
            None for a module of one's own, and beyond 1 GiB.
        novelty: how unlike the training data the items are, where the model knows; not saved.
        slices: accuracy by column, by property and in weak clusters, where they were asked for; not saved.
        against: comparison with another model on the same items; not saved.
        calibration: of the model; None: its probabilities are those of its logits.
        coverage: wanted share of prediction sets that contain the true class.
        target_precision: wanted share of correct answers where the model abstains from others.

    >>> evaluation = restune.evaluate(run_folder, photos, split="all")
    >>> evaluation.n, evaluation.logits.shape == (evaluation.n, len(evaluation.classes))
    (20, True)
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...] = field(repr=False)
    targets: NDArray[np.int64] = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    predicted: NDArray[np.int64] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    top5_correct: int | None
    skipped: tuple[tuple[str, str], ...] = ()
    model: str = ""
    data: str = ""
    fingerprint: str = ""
    seconds: float = 0.0
    clips: ClipCount | None = None
    embeddings: NDArray[np.float32] | None = field(default=None, repr=False)
    novelty: NoveltyResult | None = field(default=None, repr=False)
    slices: tuple[Slice, ...] | None = field(default=None, repr=False)
    against: Comparison | None = field(default=None, repr=False)
    calibration: Calibration | None = None
    coverage: float = 0.9
    target_precision: float = 0.99

    def __repr__(self) -> str:
        low, high = self.interval
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        interval = f"95% interval {low:.2%} to {high:.2%}"
        return (
            f"Evaluation(accuracy {self.accuracy:.2%} ({interval}), n = {self.n}, {len(self.classes)} classes{skipped})"
        )

    @property
    def n(self) -> int:
        """Number of items scored."""
        return len(self.targets)

    @property
    def correct(self) -> int:
        """Number of items whose most probable class is the true one."""
        return int((self.targets == self.predicted).sum())

    @property
    def accuracy(self) -> float:
        """Share of items predicted correctly."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95% Wilson interval."""
        return wilson_interval(self.correct, self.n)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have items."""
        return balanced_scores(*self._class_counts)[0]

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have items or are predicted."""
        return balanced_scores(*self._class_counts)[1]

    @property
    def top5(self) -> float | None:
        """Share of items whose class is among the five most probable."""
        return None if self.top5_correct is None else self.top5_correct / self.n

    @property
    def top5_interval(self) -> tuple[float, float] | None:
        """Top-5's 95% Wilson interval."""
        return None if self.top5_correct is None else wilson_interval(self.top5_correct, self.n)

    def mistakes(self, n: int = 10) -> list[ScoredItem]:
        """Return up to n wrong predictions, those with the least probable true class first.

        >>> restune.evaluate(run_folder, photos, split="all").mistakes(3)
        []
        """
        from restune.evaluation.mistakes import named, to_look_at

        return named(self, to_look_at(self, n, 0))

    def uncertain(self, n: int = 10) -> list[ScoredItem]:
        """Return the n items whose two most probable classes are closest, whether right or wrong.

        >>> restune.evaluate(run_folder, photos, split="all").uncertain(1)[0].runner_up in ("blue", "red")
        True
        """
        from restune.evaluation.mistakes import named, to_look_at

        return named(self, to_look_at(self, 0, n))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts ``[true, predicted]``; for very many classes use `confused_pairs` instead."""
        return confusion_matrix(self.targets, self.predicted, len(self.classes))

    @property
    def confused_pairs(self) -> list[tuple[int, int, int]]:
        """Nonzero entries of the confusion matrix: true class, predicted class, count."""
        return confused_pairs(self.targets, self.predicted)

    @property
    def most_confused(self) -> list[tuple[int, int, int]]:
        """The wrong entries of the confusion matrix, most frequent first: true class, predicted class, count."""
        return sorted((pair for pair in self.confused_pairs if pair[0] != pair[1]), key=lambda pair: -pair[2])

    @cached_property
    def measures(self) -> Measures:
        """All scores beyond accuracy, with their intervals; each is computed when it is asked for."""
        return Measures(
            self.logits, self.targets, self.predicted, self.calibration, self.coverage, self.target_precision
        )

    def calibrated(self, calibration: Calibration | None) -> Evaluation:
        """Return the evaluation with probabilities by another calibration; predicted classes stay."""
        bare = replace(self, calibration=calibration)
        return replace(bare, probabilities=bare.measures.items.confidence)

    @property
    def per_class(self) -> dict[str, ClassScores]:
        """Scores of each class by name."""
        hits, actual, predicted = self._class_counts
        return {
            name: class_scores(int(hits[i]), int(actual[i]), int(predicted[i])) for i, name in enumerate(self.classes)
        }

    @cached_property
    def _class_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Per class: items predicted right, items, and items predicted as the class."""
        right = self.targets[self.targets == self.predicted]
        count = len(self.classes)
        hits, actual, predicted = (np.bincount(v, minlength=count) for v in (right, self.targets, self.predicted))
        return hits, actual, predicted

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune evaluate --json`` prints."""
        is_small = len(self.classes) <= _LARGEST_MATRIX
        return {
            "accuracy": self.accuracy,
            "n": self.n,
            "interval": list(self.interval),
            "top5": self.top5,
            "top5_interval": None if self.top5_interval is None else list(self.top5_interval),
            **self.measures.to_dict(),
            "classes": list(self.classes),
            "per_class": self._class_dicts(),
            **({"confusion": self.confusion.tolist()} if is_small else {"confused_pairs": self.confused_pairs}),
            "most_confused": [
                {"true": self.classes[true], "predicted": self.classes[guess], "n": count}
                for true, guess, count in self.most_confused[:_PAIRS]
            ],
            "skipped": [{"item": item, "reason": reason} for item, reason in self.skipped],
            "model": self.model,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "seconds": round(self.seconds, 3),
            **({} if self.clips is None else {"clips": self.clips.to_dict()}),
            **({} if self.novelty is None else {"novelty": self.novelty.to_dict()}),
            **({} if self.slices is None else {"slices": [one.to_dict() for one in self.slices]}),
            **({} if self.against is None else {"against": self.against.to_dict()}),
        }

    def _class_dicts(self) -> dict[str, dict[str, Any]]:
        counts = zip(*(column.tolist() for column in self._class_counts), strict=True)
        return {
            name: {**class_scores(*one).to_dict(), **self.measures.class_dict(place, *one)}
            for place, (name, one) in enumerate(zip(self.classes, counts, strict=True))
        }

    def save(self, path: str | Path) -> Path:
        """Write ids, targets, logits, embeddings and class names as an .npz; `load_evaluation` reads it.

        Raises UserError for another suffix, and where the file cannot be written.
        """
        path = user_path(path)
        if path.suffix != ".npz":
            raise UserError("an evaluation is saved as .npz", where=str(path), fix=f"name it {path.stem}.npz")
        about = {
            "skipped": [list(pair) for pair in self.skipped],
            "model": self.model,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "seconds": self.seconds,
            "clips": None if self.clips is None else [self.clips.n, self.clips.correct],
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }
        write_arrays(
            path,
            {
                "ids": _strings(self.ids),
                "targets": self.targets.astype(np.int64),
                "logits": self.logits,
                **({} if self.embeddings is None else {"embeddings": self.embeddings}),
                "classes": _strings(self.classes),
                "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            },
        )
        return path


def load_evaluation(path: str | Path) -> Any:
    """Read an evaluation that `save` wrote, of the class that wrote it; its logits stay on disk. Raises UserError.

    >>> saved = restune.evaluate(run_folder, photos, split="all").save(folder / "scores.npz")
    >>> load_evaluation(saved).n
    20
    """
    path = user_path(path)
    try:
        about = json.loads(read_array(path, "about").tobytes())
        if about.get("task", "single-label") != "single-label":
            return _load_other_task(path, about)
        logits = read_array(path, "logits")
        embeddings = _embeddings(path)
        targets = np.array(read_array(path, "targets"))
        ids, classes = (tuple(read_array(path, name).tolist()) for name in ("ids", "classes"))
        stored = about.pop("calibration", None)
        calibration = None if stored is None else Calibration.from_dict(stored, len(classes))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise UserError(f"this is not a saved evaluation: {error}", where=str(path)) from error
    fit = logits.shape == (len(targets), len(classes)) and len(ids) == len(targets)
    if not fit or (embeddings is not None and (embeddings.ndim != 2 or len(embeddings) != len(targets))):
        raise UserError("the arrays of this evaluation do not fit together", where=str(path))
    builder = _Predictions(len(classes), calibration)
    rows = 0
    for part in chunks(logits):
        builder.add(torch.from_numpy(np.array(part)), torch.from_numpy(targets[rows : rows + len(part)]))
        rows += len(part)
    clips = about.pop("clips")
    return Evaluation(
        classes=classes,
        ids=ids,
        targets=targets,
        logits=logits,
        **builder.fields(),
        **{**about, "skipped": tuple((item, reason) for item, reason in about["skipped"])},
        clips=None if clips is None else ClipCount(*clips),
        embeddings=embeddings,
        calibration=calibration,
    )


def _load_other_task(path: Path, about: dict[str, Any]) -> Any:
    from restune.evaluation.multilabel import MultiLabelEvaluation
    from restune.evaluation.regression import RegressionEvaluation

    kinds: dict[str, Any] = {"multi-label": MultiLabelEvaluation, "regression": RegressionEvaluation}
    if about["task"] not in kinds:
        raise ValueError(f"its task, {about['task']!r}, is not known; upgrade restune")
    return kinds[about["task"]].load(path, about)


def _embeddings(path: Path) -> NDArray[np.float32] | None:
    """Return the embeddings of a saved evaluation; None where it has none."""
    try:
        return read_array(path, "embeddings")
    except KeyError:
        return None


class EvaluationBuilder:
    """Collects an `Evaluation` batch by batch, in bounded memory.

    Args:
        classes: names, in the order of the logits.
        calibration: of the model, if it has one.
    """

    def __init__(self, classes: tuple[str, ...], calibration: Calibration | None = None) -> None:
        self.classes, self.calibration = classes, calibration
        self._ids: list[str] = []
        self._targets = Column(np.int64)
        self._logits = LogitsBuffer(len(classes))
        self._embeddings = EmbeddingBuffer()
        self._predictions = _Predictions(len(classes), calibration)

    def add(self, ids: list[str], targets: list[int], logits: Tensor, embeddings: Tensor | None = None) -> None:
        """Add items: their ids, class indices, logits ``[N, C]`` and, if there are any, embeddings ``[N, F]``."""
        target = torch.tensor(targets, dtype=torch.int64)
        self._ids.extend(ids)
        self._targets.add(target)
        self._logits.add(logits)
        self._embeddings.add(embeddings, len(ids))
        self._predictions.add(logits, target)

    def evaluation(self, **about: Any) -> Evaluation:
        """Return the evaluation so far; `about` sets the fields on model, data and time."""
        return Evaluation(
            classes=self.classes,
            ids=tuple(self._ids),
            targets=self._targets.values(),
            logits=self._logits.rows(),
            embeddings=self._embeddings.rows(),
            calibration=self.calibration,
            **self._predictions.fields(),
            **about,
        )


class _Predictions:
    """The most probable class of each item, its probability, and top-5 hits."""

    def __init__(self, classes: int, calibration: Calibration | None) -> None:
        self.classes, self.top5 = classes, 0
        self.temperature = 1.0 if calibration is None else calibration.temperature
        self.predicted, self.probabilities = Column(np.int64), Column(np.float32)

    def add(self, logits: Tensor, targets: Tensor) -> None:
        self.predicted.add(logits.argmax(dim=1))
        self.probabilities.add(probabilities(logits, self.temperature).max(dim=1).values)
        if self.classes > 5:
            self.top5 += int((logits.topk(5, dim=1).indices == targets[:, None]).sum())

    def fields(self) -> dict[str, Any]:
        return {
            "predicted": self.predicted.values(),
            "probabilities": self.probabilities.values(),
            "top5_correct": self.top5 if self.classes > 5 else None,
        }


def _strings(values: tuple[str, ...]) -> NDArray[np.str_]:
    """Return names as an array; bytes that are not UTF-8 are escaped, since NumPy rejects lone surrogates."""
    return np.array([value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for value in values])
