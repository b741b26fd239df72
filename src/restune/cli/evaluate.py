"""restune evaluate."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core import console
from restune.exported.files import is_export
from restune.weights.calibration import check_coverage

if TYPE_CHECKING:
    from restune.evaluation.evaluation import Evaluation


class OnCorrupt(StrEnum):
    error = "error"
    skip = "skip"


class ClassOrder(StrEnum):
    names = "names"
    data = "data"


class Split(StrEnum):
    train = "train"
    val = "val"
    test = "test"
    all = "all"


@opt.takes(
    opt.on_inference, opt.on_data, opt.on_decisions, opt.on_views, opt.on_engine, opt.on_device, opt.on_all_verbs
)  # fmt: skip
def evaluate(
    model: opt.ModelArgument,
    data: opt.DataArgument,
    split: Annotated[
        Split | None,
        typer.Option(
            help="Split to score; by default test, else val, else all. On the data that a run was made from, the run's "
            "splits."
        ),
    ] = None,
    on_corrupt: Annotated[
        OnCorrupt, typer.Option(help="Stop at an unreadable item, or skip it and list it.")
    ] = OnCorrupt.error,
    class_order: Annotated[
        ClassOrder,
        typer.Option(
            help="Match classes by name, or assume that the data's sorted classes are the model's, in order (such as "
            "ImageNet's folders n01440764)."
        ),
    ] = ClassOrder.names,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Score even if some of the model's classes do not occur in the data."),
    ] = False,
    unknown: Annotated[
        str | None,
        typer.Option(
            help="Data of none of the model's classes, labelled or not: how well the model tells them from DATA.",
            metavar="DATA2",
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the table: the accuracy of each of its values. May be repeated.", metavar="COLUMN"
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another model, compared with MODEL item by item on the same data.", metavar="MODEL2"),
    ] = None,
    mistakes: Annotated[
        int, typer.Option(help="List this many of the most confident mistakes and of the least certain items.", min=0)
    ] = 0,
    coverage: Annotated[
        float, typer.Option(help="Share of prediction sets that are to contain the true class.", metavar="SHARE")
    ] = 0.9,
    target_precision: Annotated[
        float,
        typer.Option(
            help="Share of answers that are to be correct where the model abstains from the others.", metavar="SHARE"
        ),
    ] = 0.99,
    **options: Any,
) -> None:
    """Score a model on labelled data: accuracy and other scores with 95% intervals, calibration, abstention, prediction
    sets, per-class scores, confusion matrix.

    Example: restune evaluate resnet20 photos/ --weights resnet20.th
    """
    with verb(options["quiet"]):
        reading, views = opt.data_options(options), options.pop("views")
        engine = opt.engine_options(options)
        inference = opt.inference_options(options)
        check_coverage(coverage)
        if not is_export(model):
            early.check_inference(model, {**inference, **engine, "views": views})
        early.check_data(data, reading)
        from restune.evaluation.evaluation import Evaluation
        from restune.verbs.evaluate import evaluate as run

        result = run(
            model,
            data,
            split=split and split.value,
            on_corrupt=on_corrupt.value,
            class_order=class_order.value,
            allow_missing=allow_missing,
            views=views,
            unknown=unknown,
            by=by or (),
            against=against,
            coverage=coverage,
            target_precision=target_precision,
            data_options=reading,
            **engine,
            **inference,
        )
        of_classes = result if isinstance(result, Evaluation) else None
        if options["as_json"]:
            print_json(result.to_dict() if of_classes is None else _with_items(of_classes, mistakes))
            return
        from restune.reporting import evaluation_details, tables

        details = [] if of_classes is None else evaluation_details.detail_tables(of_classes, by or (), mistakes)
        tables.show(*tables.evaluation_tables(result), *details)
        rate = (result.n + len(result.skipped)) / max(result.seconds, 1e-9)
        console.note(f"{result.n} items in {result.seconds:.1f} s ({rate:.0f} per second, including loading)")


def _with_items(result: Evaluation, count: int) -> dict[str, Any]:
    """Return the object that --json prints, with single items where they were asked for."""
    if not count:
        return result.to_dict()
    listed = {"mistakes": result.mistakes(count), "uncertain": result.uncertain(count)}
    return {**result.to_dict(), **{name: [item.to_dict() for item in items] for name, items in listed.items()}}
