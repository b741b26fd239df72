"""restune predict."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import verb
from restune.core.errors import UserError

if TYPE_CHECKING:
    from restune.inference.model import Prediction


@opt.takes(opt.on_inference, opt.on_data, opt.on_views, opt.on_device, opt.on_all_verbs)
def predict(
    model: opt.ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, tables of paths, or - for a list on standard input; for a network that "
            "reads texts also the text itself.",
            metavar="INPUT...",
        ),
    ],
    topk: Annotated[
        int | None, typer.Option(help="How many classes to list for each input: 5, with --csv 1 by default.", min=1)
    ] = None,
    csv_file: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values, each row as soon as it is known.")
    ] = False,
    **options: Any,
) -> None:
    """Label images, videos, series or texts: one line per input. What cannot be read is reported in its place, and the
    exit status is then 2.

    Example: restune predict model.safetensors photo.jpg holiday/ --csv
    """
    with verb(options["quiet"]):
        if options["as_json"] and csv_file:
            raise UserError("--json and --csv ask for two forms at once", fix="choose one")
        from restune.verbs.predict import stream_predictions

        reading = opt.data_options(options)
        stream = stream_predictions(
            model,
            opt.listed(inputs),
            topk=topk or 5,
            views=options.pop("views"),
            data_options=reading,
            **opt.inference_options(options),
        )
        counted = _Counted(stream.predictions)
        if options["as_json"]:
            _print_json(counted)
        elif csv_file:
            _print_csv(counted, min(topk or 1, len(stream.classes)))
        else:
            from restune.reporting import tables

            tables.show(tables.predictions_table(counted))
        if counted.failed:
            raise UserError(
                f"{counted.failed} of {counted.total} inputs could not be read",
                where="INPUT",
                fix="see the reasons above",
            )


class _Counted:
    """Predictions, counted as they pass."""

    def __init__(self, predictions: Iterator[Prediction]) -> None:
        self.predictions = predictions
        self.total = self.failed = 0

    def __iter__(self) -> Iterator[Prediction]:
        for prediction in self.predictions:
            self.total += 1
            self.failed += prediction.error is not None
            yield prediction


def _print_json(predictions: Iterable[Prediction]) -> None:
    """One object on one line. Rows wait as text, which takes a fraction of the memory that predictions do."""
    rows = [json.dumps(prediction.to_dict(), ensure_ascii=False, allow_nan=False) for prediction in predictions]
    print(f'{{"predictions": [{", ".join(rows)}]}}')


def _print_csv(predictions: Iterable[Prediction], topk: int) -> None:
    """A row per input, written as soon as it is known, so that an interrupted command leaves what was done."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    others = [column for place in range(2, topk + 1) for column in (f"label_{place}", f"probability_{place}")]
    for number, prediction in enumerate(predictions):
        if number == 0:
            writer.writerow(["input", "label", "probability", "error", *others])
        row: list[object] = [prediction.input, prediction.label, prediction.probability, prediction.error]
        more: list[object] = [value for pair in prediction.top[1:topk] for value in pair]
        writer.writerow([*row, *(more or [None] * len(others))])
        sys.stdout.flush()
