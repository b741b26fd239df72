"""evaluate: score a model on labelled data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import user_path
from restune.data.dataset import SPLITS, DataOptions, Dataset
from restune.data.inputs import expand
from restune.data.items import Item
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset
from restune.data.sources.columns import column_by_id
from restune.data.sources.recognise import columns_of
from restune.evaluation.abstention import check_precision
from restune.evaluation.compare import compare
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.properties import PropertyColumns
from restune.evaluation.score import match_classes, score_any
from restune.evaluation.score_export import score_export
from restune.evaluation.slices import find_slices
from restune.evaluation.tasks import AnyEvaluation
from restune.evaluation.unknown import with_novelty, with_unknown
from restune.exported.files import is_export
from restune.exported.predict import Export, open_export, reject_options_of_models
from restune.exporting.engines import with_engine
from restune.inference.engines.names import reject_unknown
from restune.inference.load import load_model
from restune.inference.model import Model
from restune.runs.own_data import own_items, record_of, warn_of_training_items, with_run_labels
from restune.weights.calibration import check_coverage


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
    unknown: Any = None,
    by: str | Sequence[str] = (),
    against: str | Path | Model | None = None,
    coverage: float = 0.9,
    target_precision: float = 0.99,
    device: str = "auto",
    engine: str | None = None,
    precision: str = "fp32",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> AnyEvaluation:
    """Measure a model on labelled data: scores with 95% intervals, calibration, abstention, prediction sets.

    Args:
        model, weights, device, preprocess: as `restune.load`; also an export (a folder, .onnx or .xml), which is
            computed by its runtime.
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
        unknown: items of none of the model's classes, with or without labels: how well the model's novelty score tells
            them from the others, beside maximum softmax.
        by: columns of the table; the accuracy of each of their values is in `Evaluation.slices`.
        against: another model, which is compared with this one on the same items, see `Comparison`.
        coverage: wanted share of prediction sets that contain the true class.
        target_precision: wanted share of correct answers where the model abstains from others.
        engine, precision: what computes the network, as of `restune.predict`; by default torch.

    Of a multi-label model the scores are those of `MultiLabelEvaluation`, of regression those of
    `RegressionEvaluation`; a table's label columns are those that the model predicts, unless named.

    Warns where items that trained the model are among those scored. Raises UserError for data and classes that do not
    fit the model.

    >>> restune.evaluate(run_folder, photos, split="all").accuracy
    1.0
    """
    if on_corrupt not in ("error", "skip"):
        raise UserError(f"unknown value {on_corrupt!r}", where="--on-corrupt", fix="use error or skip")
    check_coverage(coverage)
    check_precision(target_precision)
    reject_unknown(engine or "torch", precision)
    started = time.perf_counter()
    loaded: Model | Export
    if is_export(model):
        of_models = {"precision": precision, "views": views, "unknown": unknown, **preprocess}
        loaded = _opened(model, engine, weights=weights, device=device, **of_models)
        note("an export does not record which items trained its model: scores of such items say nothing about new data")
    else:
        loaded = load_model(model, weights=weights, device=device, **preprocess)
    if loaded.info.task != "single-label":
        _reject_options_of_classes(loaded, {"--unknown": unknown, "--by": by or None, "--against": against})
    dataset = open_dataset(data, labelled_as(loaded, data, data_options))
    if dataset.kind != loaded.preprocess.kind:
        raise UserError(
            f"the model takes {kind_of(loaded.preprocess.kind).noun}, the data is {kind_of(dataset.kind).noun}",
            where=dataset.source,
            fix=f"name the kind with --kind {loaded.preprocess.kind} if restune took the data for another kind",
        )
    columns = {name: column_by_id(data, dataset, name, data_options) for name in ([by] if isinstance(by, str) else by)}
    other = None if against is None else _other(against, device, views)
    record = record_of(loaded.source)
    if record is not None and (data_options is None or data_options.decisions is None):
        dataset = with_run_labels(loaded.source, record, dataset)
    own = None if record is None else own_items(record, dataset, split)
    if own is not None:
        loaded, dataset = match_classes(loaded, own, class_order, allow_missing=True)
    else:
        loaded, dataset = match_classes(loaded, dataset, class_order, allow_missing=allow_missing)
        dataset = _choose_split(dataset, split, loaded, allow_missing=allow_missing)
    if record is not None:
        warn_of_training_items(record, dataset)
    if isinstance(loaded, Model):
        loaded = with_engine(loaded, engine or "torch", precision=precision, items=len(dataset))
    scorer = partial(_score, on_corrupt=on_corrupt, batch_size=batch_size, workers=workers, views=views)
    properties = PropertyColumns(dataset.kind)
    scored = scorer(loaded, dataset, properties=properties)
    if not isinstance(scored, Evaluation):
        return replace(scored, seconds=time.perf_counter() - started)
    values = {name: [of[item] for item in scored.ids] for name, of in columns.items()}
    scored = replace(scored, slices=find_slices(scored, values, properties.columns()))
    if unknown is not None and isinstance(loaded, Model):  # exports refuse it
        items, source = _unknown_items(unknown, loaded, data_options)
        scored = with_unknown(scored, loaded, items, source, batch_size=batch_size, workers=workers, views=views)
    if other is not None:
        scored = replace(scored, against=compare(scored, _score_other(other, dataset, scorer)))
    seconds = time.perf_counter() - started
    return replace(scored, seconds=seconds, coverage=coverage, target_precision=target_precision)


def _score(
    model: Model | Export, dataset: Dataset, *, properties: PropertyColumns | None = None, views: str | None,
    **options: Any,
) -> AnyEvaluation:  # fmt: skip
    """Score a model or an export, with the novelty of the items where it knows."""
    if isinstance(model, Export):
        return score_export(model, dataset, **options)
    scored = score_any(model, dataset, properties=properties, views=views, **options)
    return with_novelty(scored, model) if isinstance(scored, Evaluation) else scored


def _other(against: str | Path | Model, device: str, views: str | None) -> Model | Export:
    """Load the model or the export to compare with."""
    return _opened(against, device=device, views=views) if is_export(against) else load_model(against, device=device)


def _opened(model: str | Path | Model, engine: str | None = None, **of_models: Any) -> Export:
    """Open an export. Raises UserError for options that only a model has."""
    reject_options_of_models(of_models)
    return open_export(str(model), engine)


def _score_other(
    other: Model | Export, dataset: Dataset, scorer: Callable[[Model | Export, Dataset], AnyEvaluation]
) -> Evaluation:
    """Score the model to compare with on the same items, whatever the order of its classes."""
    if dataset.kind != other.preprocess.kind:
        noun = kind_of(other.preprocess.kind).noun
        raise UserError(f"this model takes {noun}", where=f"--against {other.source}", fix="compare another")
    other, dataset = match_classes(other, dataset, allow_missing=True)
    record = record_of(other.source)
    if record is not None:
        warn_of_training_items(record, dataset)
    scored = scorer(other, dataset)
    assert isinstance(scored, Evaluation), "its task was compared with the data's"
    return scored


def _unknown_items(data: Any, model: Model, options: DataOptions | None) -> tuple[Iterable[Item], str]:
    """Return items of labelled data, or of anything that predict takes, and their source."""
    options = replace(options or DataOptions(), kind=model.preprocess.kind)
    try:
        dataset = open_dataset(data, options)
        return dataset.items, dataset.source
    except UserError:  # without labels
        return expand(data, options, model.classes), str(data)


def _reject_options_of_classes(model: Model | Export, options: dict[str, object]) -> None:
    """Raise UserError for options that only a model that predicts one class has."""
    for option, value in options.items():
        if value is not None:
            raise UserError(
                f"this is for models that predict one class; this is a {model.info.task} model",
                where=option,
                fix="leave it out",
            )


def labelled_as(model: Model | Export, data: Any, options: DataOptions | None) -> DataOptions | None:
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


def _choose_split(dataset: Dataset, split: str | None, model: Model | Export, *, allow_missing: bool) -> Dataset:
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
