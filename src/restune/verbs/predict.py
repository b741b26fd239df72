"""predict: labels and probabilities for files, folders and patterns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from restune.data.dataset import DataOptions
from restune.data.inputs import expand
from restune.inference.load import load_model
from restune.inference.model import Model, Prediction, predict_items


def predict(
    model: str | Path | Model,
    inputs: Any,
    *,
    weights: str | Path | None = None,
    topk: int = 5,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    device: str = "auto",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> list[Prediction]:
    """Predict labels and probabilities, one prediction per input, in order.

    An input that cannot be read, or matches no file, gives a prediction with an `error`.

    Args:
        model, weights, device, preprocess: as `restune.load`.
        inputs: paths of files and folders, patterns such as ``photos/*.jpg``, or content as `Model.predict` takes
            it; one or many. A folder is replaced by the images (videos, sounds, texts) in it and its subfolders, and a
            table or a file of series, or of lines of "label text", by its rows. For a text model a ``str`` is a file
            if it exists or looks like a file name, else the text itself.
        topk: number of classes to list.
        batch_size, workers: images per forward pass, and decoding threads.
        views: evaluation views whose probabilities are averaged: of images ``flip`` or ``five-crop``.
        data_options: how to read tables and files of series.

    Raises UserError for a model that cannot be loaded, and for inputs of a type that is not accepted.

    >>> [prediction.label for prediction in restune.predict(run_folder, photos)][:2]
    ['blue', 'blue']
    """
    stream = stream_predictions(
        model, inputs, weights=weights, topk=topk, batch_size=batch_size, workers=workers, views=views, device=device,
        data_options=data_options, **preprocess,
    )  # fmt: skip
    return list(stream.predictions)


@dataclass(frozen=True)
class PredictionStream:
    """Predictions that are computed lazily.

    Args:
        classes: the model's classes, in the order of its logits.
        predictions: one per input, in order; computed when they are needed.
        task: of the model.
    """

    classes: tuple[str, ...]
    predictions: Iterator[Prediction]
    task: str = "single-label"


def stream_predictions(
    model: str | Path | Model,
    inputs: Any,
    *,
    weights: str | Path | None = None,
    topk: int = 5,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    device: str = "auto",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> PredictionStream:
    """Predict as `predict`, in bounded memory: a few batches ahead of their use.

    Raises UserError immediately for a model that cannot be loaded.
    """
    loaded = load_model(model, weights=weights, device=device, **preprocess)
    items = expand(inputs, replace(data_options or DataOptions(), kind=loaded.preprocess.kind), loaded.classes)
    predictions = predict_items(loaded, items, topk, batch_size=batch_size, workers=workers, views=views)
    return PredictionStream(loaded.classes, predictions, loaded.info.task)
