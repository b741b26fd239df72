"""Score a model on a data set: decode items, compute logits, collect them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

from restune.core.console import warn
from restune.core.errors import UserError, shorten
from restune.data.dataset import Dataset
from restune.data.items import Item
from restune.data.kinds import kind_of
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.metrics import ClipCount
from restune.evaluation.properties import PropertyColumns
from restune.evaluation.task_evaluation import outputs_of
from restune.evaluation.tasks import AnyEvaluation, builder_for
from restune.inference.forward import mean_of_task_views
from restune.inference.predictor import Predictor, predict_with_embeddings


class Classified(Protocol):
    """A model, or an export, whose classes can be matched with a data set's."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        ...

    @property
    def classes_known(self) -> bool:
        """Whether the classes are named; else they are numbered."""
        ...

    def with_classes(self, classes: Sequence[str]) -> Self:
        """Return the same model with its classes named."""
        ...


P = TypeVar("P", bound=Classified)


def score(
    predictor: Predictor,
    dataset: Dataset,
    *,
    on_corrupt: str = "error",
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    retry: bool = False,
    properties: PropertyColumns | None = None,
) -> Evaluation:
    """Score a single-label model; see `score_any`."""
    evaluation = score_any(
        predictor, dataset, on_corrupt=on_corrupt, batch_size=batch_size, workers=workers, views=views, retry=retry,
        properties=properties,
    )  # fmt: skip
    assert isinstance(evaluation, Evaluation), "callers check the task"
    return evaluation


def score_any(
    predictor: Predictor,
    dataset: Dataset,
    *,
    on_corrupt: str = "error",
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    retry: bool = False,
    properties: PropertyColumns | None = None,
) -> AnyEvaluation:
    """Compute the logits of all items and the scores from them, of any task.

    Args:
        predictor: a model with the data set's classes, in their order.
        dataset: the items to score.
        on_corrupt: ``error`` raises at the first item that cannot be read, ``skip`` lists such items.
        batch_size, workers, views, retry: see `predict_batches`.
        properties: collects properties of the items that could be read.

    Raises UserError, also if no item could be read: a score of zero items is not a score.
    """
    started = time.perf_counter()
    if not len(dataset):
        raise UserError("there are no items to score", where=dataset.source)
    kind = kind_of(predictor.preprocess.kind)
    outputs = outputs_of(predictor)
    builder = builder_for(predictor.classes, outputs, dataset, predictor.calibration)
    skipped: list[tuple[str, str]] = []
    clips: ClipCount | None = None
    for batch, logits, embeddings in predict_with_embeddings(
        predictor, dataset.items,
        batch_size=batch_size, workers=workers, views=views, description="evaluate", retry=retry,
    ):  # fmt: skip
        for position, reason in batch.failures.items():
            reject_unreadable(batch.items[position], reason, on_corrupt)
            skipped.append((batch.items[position].id, reason))
        readable = batch.readable()
        if properties is not None:
            properties.add(batch)
        targets = [item.target for item in readable]
        if kind.view_noun is not None and readable and outputs.task == "single-label":
            clips = (clips or ClipCount()).plus(logits, targets)
        mean = None if embeddings is None else embeddings.mean(dim=1)
        builder.add([item.id for item in readable], targets, mean_of_task_views(logits, outputs.task), mean)
    reject_lost(skipped, dataset)
    return builder.evaluation(
        skipped=tuple(skipped),
        model=predictor.source,
        data=dataset.source,
        fingerprint=dataset.fingerprint(),
        seconds=time.perf_counter() - started,
        **({} if clips is None else {"clips": clips}),
    )


def reject_unreadable(item: Item, reason: str, on_corrupt: str) -> None:
    """Raise UserError for an item that cannot be read, unless such items are skipped."""
    if on_corrupt == "error":
        raise UserError(
            f"this item cannot be read: {reason}",
            where=item.id,
            fix="repair or remove it, or pass --on-corrupt skip to leave such items out and list them",
        )


def reject_lost(skipped: Sequence[tuple[str, str]], dataset: Dataset) -> None:
    """Raise UserError where no item could be read."""
    if len(skipped) == len(dataset):
        raise UserError("no item of this data could be read", where=dataset.source, fix=f"the first: {skipped[0][1]}")


def match_classes(
    model: P, dataset: Dataset, class_order: str = "names", *, allow_missing: bool = False
) -> tuple[P, Dataset]:
    """Give model and data the same list of classes, in the model's order. Raises UserError if they differ."""
    if class_order not in ("names", "data"):
        raise UserError(f"unknown order {class_order!r}", where="--class-order", fix="use names or data")
    task = outputs_of(model).task
    if task != dataset.task:
        raise UserError(
            f"this is a {task} model, the data is read as {dataset.task}",
            where=dataset.source,
            fix=f"name the label columns that the model predicts with --label-column, and --task {task}"
            if task != "single-label"
            else "name the column that holds the class with --label-column, and --task single-label",
        )
    if model.classes_known and class_order == "names":
        return model, dataset.with_classes(model.classes, allow_missing=allow_missing)
    if len(dataset.classes) != len(model.classes):
        raise UserError(
            f"the data has {len(dataset.classes)} classes, the model {len(model.classes)}",
            where=dataset.source,
            fix=f"the data's classes are {shorten(dataset.classes)}; use data with the model's classes",
        )
    if not model.classes_known:
        warn(f"the weights do not name their classes; using the data's in sorted order: {shorten(dataset.classes, 12)}")
    return model.with_classes(dataset.classes), dataset
