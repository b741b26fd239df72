"""metrics.jsonl and timings.jsonl, one line per epoch, and the same line on the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from restune.core.console import note
from restune.core.files import write_text
from restune.core.machine import memory_mib
from restune.data.kinds import Kind
from restune.training.checkpoint import TrainState

_MAX_LINES = 60
"""Runs of more epochs show only about half as many lines on the screen, and each new best epoch."""
_METRICS, _TIMINGS = "metrics.jsonl", "timings.jsonl"


_IMBALANCE = 3.0
"""Ratio of the largest to the smallest class from which classes count as imbalanced."""


def is_imbalanced(class_counts: Sequence[int]) -> bool:
    """Return whether the largest class has several times as many items as the smallest."""
    return max(class_counts, default=0) >= _IMBALANCE * max(1, min(class_counts, default=0))


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """The metrics of one epoch: a line of metrics.jsonl.

    Args:
        epoch: from 1; 0 for a fitted head before the first epoch.
        step: optimiser steps taken.
        train_loss: mean training loss of the epoch.
        val_loss, val_accuracy, val_balanced_accuracy, val_macro_f1: None without validation items.
        val_map: mean average precision of multi-label data; its `val_macro_f1` is at the threshold 0.5.
        val_mae, val_r2: of regression, averaged over the numbers, in their units.
        lr: the learning rate of the last step.

    >>> records = []
    >>> run = restune.train(
    ...     photos, model="resnet8", image_size=16, epochs=2, out=folder / "epochs", on_epoch=records.append
    ... )
    >>> [record.epoch for record in records], records[-1].val_accuracy == run.result["val"]["accuracy"]
    ([1, 2], True)
    """

    epoch: int
    step: int
    train_loss: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    val_balanced_accuracy: float | None = None
    val_macro_f1: float | None = None
    val_map: float | None = None
    val_mae: float | None = None
    val_r2: float | None = None
    lr: float = 0.0

    @classmethod
    def of(cls, state: TrainState, train_loss: float, scores: Mapping[str, float]) -> EpochRecord:
        """The record of the epoch that `state` has just completed."""
        return cls(
            epoch=state.epoch,
            step=state.step,
            train_loss=train_loss,
            lr=state.rate,
            **{name: value for name, value in scores.items() if name.startswith("val_")},
        )

    def score(self, monitor: str) -> float | None:
        """The monitored metric; None where it was not measured."""
        value: float | None = getattr(self, monitor)
        return value

    def to_dict(self) -> dict[str, Any]:
        """The metrics that were measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimiser step: the argument of `on_step`.

    Args:
        step: optimiser steps taken, this one included.
        epoch: from 1.
        loss: mean training loss of the step's last batch.
        lr: the learning rate of this step; of the head where layers have different ones.
        images: training items seen so far.
        network: the network that is trained; to look at, not to change.

    >>> losses = []
    >>> run = restune.train(
    ...     photos, model="resnet8", image_size=16, epochs=1, batch_size=8, out=folder / "steps",
    ...     on_step=lambda step: losses.append(step.loss),
    ... )
    >>> len(losses)
    2
    """

    step: int
    epoch: int
    loss: float
    lr: float
    images: int
    network: nn.Module = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Running totals of a run at one moment.

    Args:
        time: `time.perf_counter()`.
        images: training images seen.
        loader_seconds: processor time spent making batches.
        checkpoint_seconds: time spent waiting for checkpoints.
    """

    time: float
    images: int
    loader_seconds: float
    checkpoint_seconds: float


@dataclass(frozen=True, kw_only=True)
class EpochTiming:
    """The timing of one epoch: a line of timings.jsonl.

    Args:
        epoch: from 1.
        seconds: with validation.
        images_per_second: of training.
        loader_share: processor time spent making batches, over training time.
        checkpoint_seconds: time spent waiting for checkpoints.
        memory_mib: peak memory of the process; 0 where the platform does not report it.
    """

    epoch: int
    seconds: float
    images_per_second: float
    loader_share: float
    checkpoint_seconds: float
    memory_mib: int

    @classmethod
    def of(cls, epoch: int, start: Counters, trained: Counters, end: Counters) -> EpochTiming:
        """The timing of an epoch, from the counters at its start, after training, and after validation."""
        training_seconds = max(trained.time - start.time, 1e-9)
        return cls(
            epoch=epoch,
            seconds=round(end.time - start.time, 3),
            images_per_second=round((trained.images - start.images) / training_seconds, 1),
            loader_share=round((trained.loader_seconds - start.loader_seconds) / training_seconds, 4),
            checkpoint_seconds=round(end.checkpoint_seconds - start.checkpoint_seconds, 3),
            memory_mib=memory_mib(),
        )


def describe_task_scores(record: EpochRecord) -> str:
    """Format the validation scores of multi-label data or regression for the epoch's line."""
    if record.val_map is not None:
        return f"  val mAP {record.val_map:.2%}  macro F1 {record.val_macro_f1 or 0.0:.3f}"
    parts = [("val MAE", record.val_mae), ("R2", record.val_r2)]
    return "".join(f"  {name} {value:.4g}" for name, value in parts if value is not None)


class MetricsLog:
    """Writes the two files of a run, and shows its epochs on the screen.

    Args:
        folder: of the run.
        is_writer: False in all processes but the main one.
        epochs: of the run; None where a time limit decides.
        kind: of the items.
        is_imbalanced: whether lines show balanced accuracy and macro F1, too.
    """

    def __init__(
        self, folder: Path, *, is_writer: bool, epochs: int | None, kind: Kind, is_imbalanced: bool = False
    ) -> None:
        self.folder, self.is_writer, self.epochs, self.kind = folder, is_writer, epochs, kind
        self.is_imbalanced = is_imbalanced

    def add(self, record: EpochRecord, timing: EpochTiming | None = None) -> None:
        """Append an epoch's metrics and, where there is one, its timing."""
        self._append(_METRICS, record.to_dict())
        if timing is not None:
            self._append(_TIMINGS, asdict(timing))

    def truncate(self, epoch: int) -> None:
        """Remove the lines of later epochs, which the checkpoint that a run resumes from does not contain."""
        for name in (_METRICS, _TIMINGS):
            path = self.folder / name
            if path.exists() and self.is_writer:
                lines = path.read_text(encoding="utf-8").splitlines()
                write_text(path, "".join(f"{line}\n" for line in lines if json.loads(line)["epoch"] <= epoch))

    def show(self, record: EpochRecord, timing: EpochTiming, *, is_best: bool) -> None:
        """Print one line for the epoch; in long runs, only for every n-th epoch and each new best."""
        if not (is_best or self._has_line(record.epoch)):
            return
        of = "" if self.epochs is None else f"/{self.epochs}"
        text = f"epoch {record.epoch}{of}  loss {record.train_loss:.4f}"
        accuracy = f"val accuracy of {self.kind.validates}" if self.kind.validates else "val accuracy"
        if record.val_loss is not None and record.val_accuracy is not None:
            text += f"  val loss {record.val_loss:.4f}  {accuracy} {record.val_accuracy:.2%}"
        elif record.val_loss is not None:
            text += f"  val loss {record.val_loss:.4f}{describe_task_scores(record)}"
        if self.is_imbalanced and record.val_balanced_accuracy is not None and record.val_macro_f1 is not None:
            text += f"  balanced {record.val_balanced_accuracy:.2%}  macro F1 {record.val_macro_f1:.3f}"
        text += f"  {timing.images_per_second:.0f} {self.kind.sample_noun}/s  {timing.seconds:.1f} s"
        note(text + ("  best" if is_best else ""))

    def _has_line(self, epoch: int) -> bool:
        if self.epochs is None or self.epochs <= _MAX_LINES or epoch == self.epochs:
            return True
        return epoch % -(-self.epochs // (_MAX_LINES // 2)) == 0

    def _append(self, name: str, content: Mapping[str, Any]) -> None:
        if self.is_writer:
            path = self.folder / name
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            write_text(path, f"{before}{json.dumps(content)}\n")
