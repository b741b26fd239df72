"""restune evaluate."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core import console


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


@opt.takes(opt.on_inference, opt.on_data, opt.on_decisions, opt.on_views, opt.on_device, opt.on_all_verbs)
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
    **options: Any,
) -> None:
    """Score a model on labelled data: accuracy with 95% interval, top-5, per-class scores, confusion matrix.

    Example: restune evaluate resnet20 photos/ --weights resnet20.th
    """
    with verb(options["quiet"]):
        reading, views = opt.data_options(options), options.pop("views")
        inference = opt.inference_options(options)
        early.check_inference(model, {**inference, "views": views})
        early.check_data(data, reading)
        from restune.verbs.evaluate import evaluate as run

        result = run(
            model,
            data,
            split=split and split.value,
            on_corrupt=on_corrupt.value,
            class_order=class_order.value,
            allow_missing=allow_missing,
            views=views,
            data_options=reading,
            **inference,
        )
        if options["as_json"]:
            print_json(result.to_dict())
            return
        from restune.reporting import tables

        tables.show(*tables.evaluation_tables(result))
        rate = (result.n + len(result.skipped)) / max(result.seconds, 1e-9)
        console.note(f"{result.n} items in {result.seconds:.1f} s ({rate:.0f} per second, including loading)")
