"""predict: labels and probabilities for files, folders and patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restune.core.console import note, silent
from restune.core.errors import UserError
from restune.core.files import named_as
from restune.core.machine import process_rank
from restune.data.dataset import DataOptions, Item
from restune.data.inputs import expand
from restune.data.kinds import kind_of
from restune.exported.files import is_export
from restune.exporting.engines import with_engine
from restune.inference.attribution.method import Attribution, resolve_class
from restune.inference.load import load_model
from restune.inference.model import AnswerOptions, Model, Prediction, predict_items
from restune.inference.prediction import reject_options_of_classes
from restune.inference.predictor import items_per_batch
from restune.networks.spec import ResNetSpec
from restune.reporting.predictions.files import FORMS
from restune.reporting.predictions.share import Share
from restune.reporting.predictions.stream import PredictionStream, stream_export
from restune.reporting.predictions.writer import (
    PredictionWriter,
    WrittenPredictions,
    counter,
    digest_of,
    part_of_machine,
)

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
    engine: str | None = None,
    precision: str = "fp32",
    data_options: DataOptions | None = None,
    explain: str | Path | None = None,
    attribution: Attribution | None = None,
    **preprocess: Any,
) -> list[Prediction]:
    """Predict labels and probabilities, one prediction per input, in order.

    An input that cannot be read, or matches no file, gives a prediction with an `error`.

    Args:
        model, weights, device, preprocess: as `restune.load`; also an export (a folder, .onnx or .xml), which is
            computed by its runtime.
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
        engine: what computes the network: ``torch``, ``onnx`` (ONNX Runtime), ``openvino``; by default ``auto``: torch,
            until enough work shows that another one is faster here, or an earlier measurement says so. Of an export
            ``onnx`` or ``openvino``, by default whichever is there.
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
    engine: str | None = None,
    precision: str = "fp32",
    data_options: DataOptions | None = None,
    explain: str | Path | None = None,
    attribution: Attribution | None = None,
    command: str = "",
    select: Callable[[Iterator[Item]], Iterator[Item]] = iter,
    description: str = "predict",
    **preprocess: Any,
) -> PredictionStream:
    """Predict as `predict`, in bounded memory: a few batches ahead of their use.

    Args:
        command: how to repeat this, for index.html of `explain`.
        select: takes all items, lazily, and returns those to predict.
        description: of the progress bar; empty for none.

    Raises UserError immediately for a model that cannot be loaded.
    """
    if not isinstance(model, Model) and is_export(model):
        return stream_export(
            model, inputs, weights=weights, topk=topk, batch_size=batch_size, workers=workers, views=views,
            threshold=threshold, coverage=coverage, class_conditional=class_conditional, device=device, engine=engine,
            precision=None if precision == "fp32" else precision, data_options=data_options, explain=explain,
            attribution=attribution, select=select, description=description,
            **preprocess,
        )  # fmt: skip
    options = AnswerOptions(threshold=threshold, coverage=coverage, class_conditional=class_conditional)
    options.check()
    engine = engine or "auto"
    if explain is not None:
        _reject_with_explanations(engine, precision)
        engine = "torch"
    loaded = with_engine(load_model(model, weights=weights, device=device, **preprocess), engine, precision=precision)
    if loaded.info.task != "single-label":
        reject_options_of_classes(
            loaded.info.task, {"--threshold": threshold, "--coverage": coverage, "--explain": explain}
        )
        reading = replace(data_options or DataOptions(), kind=loaded.preprocess.kind, task=loaded.info.task)
        items = select(expand(inputs, reading, loaded.classes))
        predictions = predict_items(
            loaded, items, topk, batch_size=batch_size, workers=workers, views=views, description=description
        )
        return _stream(loaded, predictions)
    if threshold is not None and loaded.calibration is None:
        note("this model is not calibrated: the threshold is compared with the network's own probabilities")
    items = select(expand(inputs, replace(data_options or DataOptions(), kind=loaded.preprocess.kind), loaded.classes))
    if explain is None:
        predictions = predict_items(
            loaded, items, topk,
            batch_size=batch_size, workers=workers, views=views, options=options, description=description,
        )  # fmt: skip
        return _stream(loaded, predictions)
    from restune.inference.attribution.explain import explain_items, fitted_to
    from restune.reporting.explanations import explanation_folder

    folder, wanted = explanation_folder(explain), fitted_to(attribution or Attribution(), loaded)
    resolve_class(loaded.classes, wanted.label)
    explained = explain_items(
        loaded, items, wanted, topk, batch_size=batch_size, workers=workers, views=views, options=options
    )
    return _stream(loaded, _written(loaded, explained, folder, command))


def _stream(model: Model, predictions: Iterator[Prediction]) -> PredictionStream:
    return PredictionStream(
        classes=model.classes,
        predictions=predictions,
        task=model.info.task,
        knows_novelty=model.novelty is not None,
        preprocess=model.preprocess,
        digest=partial(digest_of, model),
        engine="torch" if model.runtime is None else model.runtime.name,
        precision="fp32" if model.runtime is None else model.runtime.precision,
    )


def predict_to_file(
    model: str | Path | Model,
    inputs: Any,
    out: str | Path,
    *,
    topk: int = 1,
    batch_size: int = 64,
    views: str | None = None,
    threshold: float | None = None,
    coverage: float | None = None,
    class_conditional: bool = False,
    **options: Any,
) -> WrittenPredictions | None:
    """Predict as `predict`, in bounded memory, and write one row per input to a .csv or .parquet file, in order.

    A file that was begun with the same model, settings and inputs is continued: in the end it has the bytes of a
    command that was never stopped. Several processes that torchrun started share the work; the first one joins their
    rows, and the others return None.

    Args:
        model, inputs, batch_size, views, threshold, coverage, class_conditional, options: as `predict`.
        out: the file.
        topk: number of classes that have columns.

    Raises UserError for a file that cannot be continued or written, and Interrupted when a signal stopped it.

    >>> predict_to_file(run_folder, photos, folder / "predictions.csv").inputs
    20
    """
    path, share = named_as(out, FORMS, "predictions"), Share(*process_rank())
    if not is_export(model):  # one engine from the first row to the last, also where the file is continued
        options["engine"] = options.get("engine") or "torch"
    _reject_auto(options)
    with silent(share.rank > 0), part_of_machine(share.size, options.get("device", "auto")):
        stream = stream_predictions(
            model, inputs, topk=topk, batch_size=batch_size, views=views, threshold=threshold, coverage=coverage,
            class_conditional=class_conditional, select=share.take, description="", **options,
        )  # fmt: skip
        preprocess = stream.preprocess
        share.batch = items_per_batch(preprocess, batch_size, views)
        settings = {
            "MODEL": stream.digest(),
            "preprocessing": str(preprocess),
            "--topk": topk,
            "--threshold": threshold,
            "--coverage": coverage,
            "--class-conditional": class_conditional,
            "--views": kind_of(preprocess.kind).view_mode(views),
            "--batch-size": batch_size,
            "--engine": stream.engine,
            "--precision": stream.precision,
        }
        return PredictionWriter(
            path=path, share=share, predictions=stream.predictions, settings=settings,
            columns=stream.columns(topk, threshold=threshold, coverage=coverage),
            count=counter(inputs, stream, options.get("data_options")),
        ).write()  # fmt: skip


def _reject_auto(options: dict[str, Any]) -> None:
    """Raise UserError for ``auto``: a second measurement might choose another engine, whose answers are rounded
    otherwise."""
    for option in ("engine", "precision"):
        if options.get(option) == "auto":
            raise UserError(
                f"a file of predictions needs one {option} from its first row to its last",
                where=f"--{option}",
                fix="name it: --engine torch, onnx or openvino; --precision fp32 or bf16",
            )


def _reject_with_explanations(engine: str, precision: str) -> None:
    """Raise UserError for an engine or a precision that does not explain."""
    for value, usual, option in ((engine, ("auto", "torch"), "--engine"), (precision, ("fp32",), "--precision")):
        if value not in usual:
            raise UserError("explanations are computed by torch in fp32", where=f"{option} {value}", fix="leave it out")


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
