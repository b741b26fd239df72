"""evaluate: score a model on labelled data."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.data.dataset import SPLITS, DataOptions, Dataset
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset
from restune.data.sources.recognise import columns_of
from restune.evaluation.score import match_classes, score
from restune.evaluation.tasks import AnyEvaluation
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.runs.own_data import own_items, record_of, warn_of_training_items


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
    views: str | None = None,
    device: str = "auto",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> AnyEvaluation:
    """Measure accuracy with its interval, top-5, per-class scores and the confusion matrix.

    Args:
        model, weights, device, preprocess: as `restune.load`.
        data, data_options: see `DataOptions`; a folder of class folders, a table, an npz, a tar or a known name.
        split: ``train``, ``val``, ``test`` or ``all``; by default test where the data has it, else val, else all. Of a
            run's model on the data that it was made from these are the run's splits, without unreadable items.
        on_corrupt: ``error`` stops at the first unreadable item, ``skip`` lists and counts them.
        class_order: ``names`` matches the classes of data and model by name; ``data`` takes the data's sorted
            classes to be the model's, in its order, whatever their names (such as ImageNet's folders n01440764).
        allow_missing: score even if some of the model's classes have no items.
        batch_size, workers: images per forward pass, and decoding threads.
        views: evaluation views whose probabilities are averaged: of images ``flip`` or ``five-crop`` (test-time
            augmentation), of videos ``spread`` (the default) or ``single`` (the centre clip).

    Of a multi-label model the scores are those of `MultiLabelEvaluation`, of regression those of
    `RegressionEvaluation`; a table's label columns are those that the model predicts, unless named.

    Warns where items that trained the model are among those scored. Raises UserError for data and classes that do not
    fit the model.

    >>> restune.evaluate(run_folder, photos, split="all").accuracy
    1.0
    """
    if on_corrupt not in ("error", "skip"):
        raise UserError(f"unknown value {on_corrupt!r}", where="--on-corrupt", fix="use error or skip")
    started = time.perf_counter()
    loaded = load_model(model, weights=weights, device=device, **preprocess)
    dataset = open_dataset(data, labelled_as(loaded, data, data_options))
    if dataset.kind != loaded.preprocess.kind:
        raise UserError(
            f"the model takes {loaded.kind.noun}, the data is {kind_of(dataset.kind).noun}",
            where=dataset.source,
            fix=f"name the kind with --kind {loaded.preprocess.kind} if restune took the data for another kind",
        )
    record = record_of(loaded.source)
    own = None if record is None else own_items(record, dataset, split)
    if own is not None:
        loaded, dataset = match_classes(loaded, own, class_order, allow_missing=True)
    else:
        loaded, dataset = match_classes(loaded, dataset, class_order, allow_missing=allow_missing)
        dataset = _choose_split(dataset, split, loaded, allow_missing=allow_missing)
    if record is not None:
        warn_of_training_items(record, dataset)
    scored = score(loaded, dataset, on_corrupt=on_corrupt, batch_size=batch_size, workers=workers, views=views)
    return replace(scored, seconds=time.perf_counter() - started)


def labelled_as(model: Model, data: Any, options: DataOptions | None) -> DataOptions | None:
    """Return how to read the data's labels: as the model's task needs them, where that is not named.

    A table that has all columns of the numbers or labels that the model predicts is read with these.
    """
    task, options = model.info.task, options or DataOptions()
    if task == "single-label" or options.task is not None:
        return options
    options = replace(options, task=task)
    if options.label_column is None and options.label_separator is None:
        names = columns_of(user_path(data)) if isinstance(data, str | Path) else map(str, getattr(data, "columns", ()))
        if set(model.classes) <= set(names):
            options = replace(options, label_column=",".join(model.classes))
    return options


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
