"""restune predict."""

from __future__ import annotations

import csv
import io
import sys
from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.errors import UserError


@opt.takes(opt.on_inference, opt.on_data, opt.on_views, opt.on_device, opt.on_all_verbs)
def predict(
    model: opt.ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, or - for a list on standard input; for a text network also the text "
            "itself.",
            metavar="INPUT...",
        ),
    ],
    topk: Annotated[int, typer.Option(help="How many classes to list for each input.", min=1)] = 5,
    csv_file: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    **options: Any,
) -> None:
    """Label images, videos, series or texts, one line per input. Unreadable inputs are reported in place.

    Example: restune predict model.safetensors photo.jpg holiday/ --csv
    """
    with verb(options["quiet"]):
        if options["as_json"] and csv_file:
            raise UserError("--json and --csv cannot be combined", fix="choose one")
        from restune.verbs.predict import predict as run

        reading = opt.data_options(options)
        predictions = run(
            model,
            _listed(inputs),
            topk=topk,
            views=options.pop("views"),
            data_options=reading,
            **opt.inference_options(options),
        )
        if options["as_json"]:
            print_json({"predictions": [prediction.to_dict() for prediction in predictions]})
        elif csv_file:
            _print_csv([prediction.to_dict() for prediction in predictions])
        else:
            from restune.reporting import tables

            tables.show(tables.predictions_table(predictions))
        if predictions and all(prediction.error is not None for prediction in predictions):
            raise UserError("no input could be read", where="INPUT", fix="see the reasons above")


def _listed(inputs: list[str]) -> list[str]:
    """Return the inputs with ``-`` replaced by the lines of standard input."""
    listed: list[str] = []
    for text in inputs:
        listed.extend(line.rstrip("\r\n") for line in sys.stdin if line.strip()) if text == "-" else listed.append(text)
    if not listed:
        raise UserError("standard input lists no files", where="-", fix="write one path per line")
    return listed


def _print_csv(predictions: list[dict[str, Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["input", "label", "probability", "error"])
    for row in predictions:
        writer.writerow([row["input"], row.get("label", ""), row.get("probability", ""), row.get("error", "")])
    print(buffer.getvalue(), end="")
