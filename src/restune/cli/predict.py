"""restune predict."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, print_json_line, verb
from restune.core.console import say, warn
from restune.core.errors import UserError
from restune.core.files import named_as
from restune.core.machine import process_rank
from restune.core.rowlog import reject_foreign
from restune.exported.files import is_export
from restune.inference.attribution.method import METHODS, Attribution, check_method
from restune.reporting.predictions.rows import PredictionRows, csv_line

if TYPE_CHECKING:
    from restune.inference.prediction import Prediction
    from restune.reporting.predictions.stream import PredictionStream


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
        int | None,
        typer.Option(help="Number of classes to list for each input (default: 5; with --csv and --out: 1).", min=1),
    ] = None,
    csv_file: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values, each row as soon as it is known.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write one row per input to this file as it goes, .csv or .parquet; the same command continues a file "
            "that was not finished. With torchrun, several processes share the inputs.",
            metavar="FILE",
        ),
    ] = None,
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
        _check_out(out, {"--csv": csv_file, "--explain": explain is not None})
        reading, views = opt.data_options(options), options.pop("views")
        engine = opt.engine_options(options)
        inference = opt.inference_options(options)
        attribution = _attribution(explain, explain_class, method, stage)
        answers = {"threshold": threshold, "coverage": coverage, "class_conditional": class_conditional}
        inference |= {"views": views, "data_options": reading, **engine, **answers}
        if not is_export(model):
            early.check_inference(model, inference)
        if out is not None:
            _write(model, inputs, out, topk or 1, as_json=options["as_json"], **inference)
            return
        stream = _streaming(model)(
            model,
            opt.listed(inputs),
            topk=topk or 5,
            explain=explain,
            attribution=attribution if explain else None,
            command=shlex.join(["restune", *sys.argv[1:]]),
            **inference,
        )
        counted = _Counted(stream.predictions)
        if options["as_json"]:
            _print_json(counted)
        elif csv_file:
            _print_csv(counted, stream.columns(topk or 1, threshold=threshold, coverage=coverage))
        else:
            from restune.reporting import tables

            tables.show(tables.predictions_table(counted))
        if counted.failed:
            raise _unreadable(counted.failed, counted.total)


def _check_out(out: Path | None, others: dict[str, bool]) -> None:
    """Raise UserError for a file that cannot be written, before torch is imported; and for several processes without
    one."""
    _, processes = process_rank()
    if out is None and processes > 1:
        raise UserError(
            f"{processes} processes need one file to write to", where="torchrun", fix="name it with --out FILE.csv"
        )
    if out is None:
        return
    for option, is_set in others.items():
        if is_set:
            raise UserError(f"--out and {option} cannot be combined", fix="choose one")
    reject_foreign(named_as(out, (".csv", ".parquet"), "predictions"))


def _write(model: str, inputs: list[str], out: Path, topk: int, *, as_json: bool, **options: Any) -> None:
    """Write the predictions to a file. Raises UserError if some inputs could not be read."""
    from restune.verbs.predict import predict_to_file

    listed = opt.listed(inputs) if "-" in inputs else inputs
    written = predict_to_file(model, listed, out, topk=topk, **options)
    rank, processes = process_rank()
    if written is None or rank > 0:
        return
    if as_json:
        print_json({"out": str(out), "inputs": written.inputs, "unreadable": written.failed})
    else:
        say(f"{written.inputs} inputs: {out}")
    if written.failed and processes == 1:
        raise _unreadable(written.failed, written.inputs, "see the column error")
    if written.failed:  # a status of 2 would make torchrun report a crash
        warn(f"{written.failed} of {written.inputs} inputs could not be read: see the column error")


def _unreadable(failed: int, total: int, fix: str = "see the reasons above") -> UserError:
    return UserError(f"{failed} of {total} inputs could not be read", where="INPUT", fix=fix)


def _streaming(model: str) -> Callable[..., PredictionStream]:
    """Return what predicts with this model; for an export nothing that imports torch."""
    if is_export(model):
        from restune.reporting.predictions.stream import stream_export

        return stream_export
    from restune.verbs.predict import stream_predictions

    return stream_predictions


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


def _print_csv(predictions: Iterable[Prediction], rows: PredictionRows) -> None:
    """Print one row per input as soon as it is known, so that an interrupted command leaves the rows so far."""
    for number, prediction in enumerate(predictions):
        if number == 0:
            sys.stdout.write(csv_line(rows.names))
        sys.stdout.write(csv_line(rows.row(prediction)))
        sys.stdout.flush()
