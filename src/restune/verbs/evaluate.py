"""evaluate: what a model scores on data it has not seen."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.data.dataset import SPLITS, DataOptions, Dataset
from restune.data.preprocess import NOUNS
from restune.data.sources import open_dataset
from restune.evaluation.metrics import ClipCount, Counter, Evaluation
from restune.inference.model import Model, together
from restune.verbs.load import load


def evaluate(
    model: str | Path | Model,
    data: Any,
    *,
    weights: str | Path | None = None,
    split: str | None = None,
    on_corrupt: str = "error",
    class_order: str = "names",
    allow_missing: bool = False,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> Evaluation:
    """Accuracy with its interval, top-5, per-class scores and the confusion matrix.

    Args:
        model, weights, device, **preprocess: as `restune.load`.
        data, data_options: see `DataOptions`; a folder of class folders, a table, an npz, a tar or a known name.
        split: ``train``, ``val``, ``test`` or ``all``; by default test where the data has it, else val, else all.
        on_corrupt: ``error`` stops at the first unreadable item, ``skip`` lists and counts them.
        class_order: ``names`` matches the classes of data and model by name; ``data`` takes the data's sorted
            classes to be the model's, in its order, whatever their names (such as ImageNet's folders n01440764).
        allow_missing: score even if some of the model's classes have no items.
        batch_size, workers: how much is computed at a time, and how many threads decode.

    Raises UserError for data and classes that do not fit the model.
    """
    if on_corrupt not in ("error", "skip"):
        raise UserError(f"unknown way {on_corrupt!r}", where="--on-corrupt", fix="use error or skip")
    started = time.perf_counter()
    dataset = open_dataset(data, data_options)
    loaded = load(model, weights=weights, device=device, **preprocess)
    if dataset.kind != loaded.preprocess.kind:
        raise UserError(
            f"the model reads {NOUNS[loaded.preprocess.kind]}, the data is {NOUNS[dataset.kind]}",
            where=dataset.source,
            fix=f"name the kind with --kind {loaded.preprocess.kind} if the data was taken for something else",
        )
    loaded, dataset = match_classes(loaded, dataset, class_order, allow_missing=allow_missing)
    dataset = _choose_split(dataset, split, loaded, allow_missing=allow_missing)
    counter = Counter(loaded.classes)
    skipped: list[tuple[str, str]] = []
    of_clips: ClipCount | None = None
    for batch, logits in loaded.clip_logits_of(
        dataset.items, batch_size=batch_size, workers=workers, description="evaluate"
    ):
        for position, reason in batch.failures.items():
            item = batch.items[position]
            if on_corrupt == "error":
                raise UserError(
                    f"this item cannot be read: {reason}",
                    where=item.id,
                    fix="mend or remove it, or pass --on-corrupt skip to leave such items out and list them",
                )
            skipped.append((item.id, reason))
        readable = batch.readable()
        targets = [item.target for item in readable]
        if logits.ndim == 3:
            of_clips = (of_clips or ClipCount()).plus(logits, targets)
        counter.add([item.id for item in readable], targets, together(logits))
    if len(skipped) == len(dataset):
        raise UserError("no item of this data could be read", where=dataset.source, fix=f"the first: {skipped[0][1]}")
    return counter.evaluation(
        skipped=tuple(skipped),
        model=loaded.source,
        data=dataset.source,
        fingerprint=dataset.fingerprint(),
        seconds=time.perf_counter() - started,
        clips=of_clips,
    )


def match_classes(
    model: Model, dataset: Dataset, class_order: str = "names", *, allow_missing: bool = False
) -> tuple[Model, Dataset]:
    """Model and data with one class list between them, the model's order kept. Raises UserError when they differ."""
    if class_order not in ("names", "data"):
        raise UserError(f"unknown order {class_order!r}", where="--class-order", fix="use names or data")
    if model.classes_known and class_order == "names":
        return model, dataset.with_classes(model.classes, allow_missing=allow_missing)
    if len(dataset.classes) != len(model.classes):
        raise UserError(
            f"the data has {len(dataset.classes)} classes, the model {len(model.classes)}",
            where=dataset.source,
            fix=f"the data's classes are {shorten(dataset.classes)}; use data with the model's classes",
        )
    if not model.classes_known:
        warn(f"the weights name no classes; the data's are used, in sorted order: {shorten(dataset.classes, 12)}")
    return model.with_classes(dataset.classes), dataset


def _choose_split(dataset: Dataset, split: str | None, model: Model, *, allow_missing: bool) -> Dataset:
    have = dataset.splits()
    if split is None:
        split = next((name for name in ("test", "val") if name in have), "all")
        if have:
            listed = ", ".join(f"{name} {count}" for name, count in have.items())
            note(f"the data has {listed}; the {split} items are scored (--split)")
    if split == "all":
        return dataset
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}", where="--split", fix="use train, val, test or all")
    chosen = dataset.select(split)
    return chosen.with_classes(model.classes, allow_missing=allow_missing) if model.classes_known else replace(chosen)
