"""predict: labels and probabilities for files, folders and patterns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restune.core.console import note
from restune.core.errors import UserError
from restune.data.dataset import DataOptions, Item
from restune.data.inputs import expand
from restune.exporting.engines import with_engine
from restune.inference.attribution.method import Attribution, resolve_class
from restune.inference.load import load_model
from restune.inference.model import AnswerOptions, Model, Prediction, predict_items
from restune.networks.spec import ResNetSpec

if TYPE_CHECKING:
    from restune.inference.attribution.explanation import Explanation


def predict(
    model: str | Path | Model,
    inputs: Any,
    *,
    weights: str | Path | None = None,
    topk: int = 5,
    batch_size: int = 64,
    workers: int | None = None,
    views: str | None = None,
    threshold: float | None = None,
    coverage: float | None = None,
    class_conditional: bool = False,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
    data_options: DataOptions | None = None,
    explain: str | Path | None = None,
    attribution: Attribution | None = None,
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
        threshold: abstain where the probability is lower: the label is then None.
        coverage: list the classes among which the true one is with this probability.
        class_conditional: that probability holds for the items of each class.
        engine: what computes the network: ``torch``, ``onnx`` (ONNX Runtime), ``openvino``, or ``auto``, see
            `exporting.engines.with_engine`.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the processor multiplies it and the answers agree.
        data_options: how to read tables and files of series.
        explain: a folder to write a picture of each input's explanation to, and index.html; see `Model.explain`.
        attribution: what to explain and how; by default the predicted class by class activation maps.

    Raises UserError for a model that cannot be loaded, and for inputs of a type that is not accepted.

    >>> [prediction.label for prediction in restune.predict(run_folder, photos)][:2]
    ['blue', 'blue']
    """
    stream = stream_predictions(
        model, inputs, weights=weights, topk=topk, batch_size=batch_size, workers=workers, views=views,
        threshold=threshold, coverage=coverage, class_conditional=class_conditional, device=device, engine=engine,
        precision=precision, data_options=data_options, explain=explain, attribution=attribution, **preprocess,
    )  # fmt: skip
    return list(stream.predictions)


@dataclass(frozen=True)
class PredictionStream:
    """Predictions that are computed lazily.

    Args:
        classes: the model's classes, in the order of its logits.
        predictions: one per input, in order; computed when they are needed.
        knows_novelty: whether the model tells inputs that are unlike its training data.
        task: of the model.
    """

    classes: tuple[str, ...]
    predictions: Iterator[Prediction]
    knows_novelty: bool = False
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
    threshold: float | None = None,
    coverage: float | None = None,
    class_conditional: bool = False,
    device: str = "auto",
    engine: str = "torch",
    precision: str = "fp32",
    data_options: DataOptions | None = None,
    explain: str | Path | None = None,
    attribution: Attribution | None = None,
    command: str = "",
    **preprocess: Any,
) -> PredictionStream:
    """Predict as `predict`, in bounded memory: a few batches ahead of their use.

    Args:
        command: how to repeat this, for index.html of `explain`.

    Raises UserError immediately for a model that cannot be loaded.
    """
    options = AnswerOptions(threshold=threshold, coverage=coverage, class_conditional=class_conditional)
    options.check()
    loaded = with_engine(load_model(model, weights=weights, device=device, **preprocess), engine, precision=precision)
    if loaded.info.task != "single-label":
        _reject_options_of_classes(loaded, {"--threshold": threshold, "--coverage": coverage, "--explain": explain})
        reading = replace(data_options or DataOptions(), kind=loaded.preprocess.kind, task=loaded.info.task)
        items = expand(inputs, reading, loaded.classes)
        predictions = predict_items(loaded, items, topk, batch_size=batch_size, workers=workers, views=views)
        return PredictionStream(loaded.classes, predictions, task=loaded.info.task)
    if threshold is not None and loaded.calibration is None:
        note("this model is not calibrated: the threshold is compared with the network's own probabilities")
    items = expand(inputs, replace(data_options or DataOptions(), kind=loaded.preprocess.kind), loaded.classes)
    knows_novelty = loaded.novelty is not None
    if explain is None:
        predictions = predict_items(
            loaded, items, topk, batch_size=batch_size, workers=workers, views=views, options=options
        )
        return PredictionStream(loaded.classes, predictions, knows_novelty)
    from restune.inference.attribution.explain import explain_items, fitted_to
    from restune.reporting.explanations import explanation_folder

    folder, wanted = explanation_folder(explain), fitted_to(attribution or Attribution(), loaded)
    resolve_class(loaded.classes, wanted.label)
    explained = explain_items(
        loaded, items, wanted, topk, batch_size=batch_size, workers=workers, views=views, options=options
    )
    return PredictionStream(loaded.classes, _written(loaded, explained, folder, command), knows_novelty)


def _reject_options_of_classes(model: Model, options: dict[str, object]) -> None:
    """Raise UserError for options that only a model that predicts one class has."""
    for option, value in options.items():
        if value is not None:
            raise UserError(
                f"this is for models that predict one class; this is a {model.info.task} model",
                where=option,
                fix="leave it out",
            )


def _written(
    model: Model, explained: Iterator[tuple[Item, Prediction, Explanation | None]], folder: Path, command: str
) -> Iterator[Prediction]:
    """Yield each prediction once its picture is written; write index.html after the last."""
    from restune.reporting.explanations import ExplanationFolder

    spec = model.spec
    pool = ("hidden" if spec.hidden else spec.pool) if isinstance(spec, ResNetSpec) else ""
    pictures = ExplanationFolder(folder, model.info.name or "network", model.preprocess, pool, command)
    for item, prediction, explanation in explained:
        path = None if explanation is None else pictures.add(prediction, explanation, item.location.read())
        if explanation is None:
            pictures.add(prediction, None, None)
        yield replace(prediction, explanation=None if path is None else str(path))
    note(f"explanations: {pictures.finish()}")
