"""restune predict."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json_line, verb
from restune.core.errors import UserError
from restune.inference.attribution.method import METHODS, Attribution, check_method

if TYPE_CHECKING:
    from restune.inference.model import Prediction


@opt.takes(opt.on_inference, opt.on_data, opt.on_views, opt.on_engine, opt.on_device, opt.on_all_verbs)
def predict(
    model: opt.ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, tables of paths, or - for a list on standard input; for a text network "
            "also the text itself.",
            metavar="INPUT...",
        ),
    ],
    topk: Annotated[
        int | None, typer.Option(help="Number of classes to list for each input (default: 5; with --csv: 1).", min=1)
    ] = None,
    csv_file: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values, each row as soon as it is known.")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Write a picture of each input to this folder, which shows where the evidence for its class is, and "
            "index.html.",
            metavar="DIR",
        ),
    ] = None,
    explain_class: Annotated[
        str | None, typer.Option(help="With --explain: the class to explain; by default the predicted one.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="With --explain: how; by default cam.", metavar="|".join(METHODS))
    ] = None,
    stage: Annotated[
        int | None, typer.Option(help="With --explain: the stage to explain by Grad-CAM; by default the last.", min=0)
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Abstain where the probability is lower; `restune evaluate` proposes one.", metavar="P"),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="List for each input the classes among which the true one is, so often.", metavar="SHARE"),
    ] = None,
    class_conditional: Annotated[
        bool, typer.Option("--class-conditional", help="With --coverage: so often for the inputs of each class.")
    ] = False,
    **options: Any,
) -> None:
    """Label images, videos, series or texts, one line per input. Unreadable inputs are reported in place, and the exit
    status is then 2.

    Example: restune predict model.safetensors photo.jpg holiday/ --csv
    """
    with verb(options["quiet"]):
        if options["as_json"] and csv_file:
            raise UserError("--json and --csv cannot be combined", fix="choose one")
        reading, views = opt.data_options(options), options.pop("views")
        engine = opt.engine_options(options)
        inference = opt.inference_options(options)
        early.check_inference(model, {**inference, "views": views})
        attribution = _attribution(explain, explain_class, method, stage)
        from restune.verbs.predict import stream_predictions

        stream = stream_predictions(
            model,
            opt.listed(inputs),
            topk=topk or 5,
            views=views,
            threshold=threshold,
            coverage=coverage,
            class_conditional=class_conditional,
            data_options=reading,
            explain=explain,
            attribution=attribution,
            command=shlex.join(["restune", *sys.argv[1:]]),
            **engine,
            **inference,
        )
        counted = _Counted(stream.predictions)
        if options["as_json"]:
            _print_json(counted)
        elif csv_file and stream.task != "single-label":
            _print_task_csv(counted, stream.task, stream.classes)
        elif csv_file:
            wanted = {"abstained": threshold is not None, "prediction_set": coverage is not None}
            wanted |= dict.fromkeys(("novel", "novelty"), stream.knows_novelty)
            _print_csv(counted, min(topk or 1, len(stream.classes)), [name for name, is_on in wanted.items() if is_on])
        else:
            from restune.reporting import tables

            tables.show(tables.predictions_table(counted))
        if counted.failed:
            raise UserError(
                f"{counted.failed} of {counted.total} inputs could not be read",
                where="INPUT",
                fix="see the reasons above",
            )


def _attribution(folder: Path | None, label: str | None, method: str | None, stage: int | None) -> Attribution:
    """Return how to explain. Raises UserError for options that do not fit together."""
    for name, value in (("--explain-class", label), ("--method", method), ("--stage", stage)):
        if folder is None and value is not None:
            raise UserError(f"{name} needs --explain", where=name, fix="add --explain DIR")
    check_method(method or "cam", stage)
    return Attribution(label=label, method=method or "cam", stage=stage)


class _Counted:
    """Count predictions and failures while iterating."""

    def __init__(self, predictions: Iterator[Prediction]) -> None:
        self.predictions = predictions
        self.total = self.failed = 0

    def __iter__(self) -> Iterator[Prediction]:
        for prediction in self.predictions:
            self.total += 1
            self.failed += prediction.error is not None
            yield prediction


def _print_json(predictions: Iterable[Prediction]) -> None:
    """Print one object on one line. Rows are collected as text, which needs less memory than predictions."""
    rows = [json.dumps(prediction.to_dict(), ensure_ascii=False, allow_nan=False) for prediction in predictions]
    print_json_line(f'{{"predictions": [{", ".join(rows)}]}}')


def _print_task_csv(predictions: Iterable[Prediction], task: str, classes: Sequence[str]) -> None:
    """Print the labels and every label's probability, or the numbers, one row per input as soon as it is known."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    is_labels = task == "multi-label"
    names = [f"probability_{name}" for name in classes] if is_labels else list(classes)
    writer.writerow(["input", *(["labels"] if is_labels else []), *names, "error"])
    for prediction in predictions:
        known = prediction.probabilities if is_labels else prediction.values
        numbers = [None if known is None else known[name] for name in classes]
        labels = [None if prediction.labels is None else "|".join(prediction.labels)] if is_labels else []
        writer.writerow([prediction.input, *labels, *numbers, prediction.error])
        sys.stdout.flush()


def _print_csv(predictions: Iterable[Prediction], topk: int, more: list[str]) -> None:
    """Print one row per input as soon as it is known, so that an interrupted command leaves the rows so far.

    Args:
        more: further columns, last: ``abstained`` (true or false), ``prediction_set`` (class names separated by ``|``),
            ``novel`` (true or false), ``novelty``.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    others = [column for place in range(2, topk + 1) for column in (f"label_{place}", f"probability_{place}")]
    for number, prediction in enumerate(predictions):
        if number == 0:
            writer.writerow(["input", "label", "probability", "error", *others, *more])
        row: list[object] = [prediction.input, prediction.label, prediction.probability, prediction.error]
        runners_up: list[object] = [value for pair in prediction.top[1:topk] for value in pair]
        writer.writerow([*row, *(runners_up or [None] * len(others)), *(_cell(prediction, name) for name in more)])
        sys.stdout.flush()


def _cell(prediction: Prediction, name: str) -> str | None:
    if name in ("abstained", "novel", "novelty"):
        value = getattr(prediction, name)
        return None if value is None else str(value).lower()
    return None if prediction.prediction_set is None else "|".join(prediction.prediction_set)
