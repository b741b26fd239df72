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

    An input that cannot be read, or stands for no file, is reported in its place by `Prediction.error`.

    Args:
        model, weights, device, **preprocess: as `restune.load`.
        inputs: paths of files and folders, patterns such as ``photos/*.jpg``, or content as `Model.predict` takes
            it; one or many. A folder stands for the images (videos, sounds, texts) in it and its subfolders, and a
            table or a file of series, or of lines of "label text", for its rows. For a text model a ``str`` is a file
            where there is one, or where it is written like a file name, else the text.
        topk: how many classes to list.
        batch_size, workers: how much is computed at a time, and how many threads decode.
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
    """Predictions as they are made.

    Args:
        classes: of the model, in the order of its logits.
        predictions: one per input, in order; computed when they are asked for.
    """

    classes: tuple[str, ...]
    predictions: Iterator[Prediction]


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
    """As `predict`, in bounded memory: inputs are found, and predictions made, a few batches ahead of their use.

    Raises UserError at once for a model that cannot be loaded.
    """
    loaded = load_model(model, weights=weights, device=device, **preprocess)
    items = expand(inputs, replace(data_options or DataOptions(), kind=loaded.preprocess.kind), loaded.classes)
    predictions = predict_items(loaded, items, topk, batch_size=batch_size, workers=workers, views=views)
    return PredictionStream(loaded.classes, predictions)
