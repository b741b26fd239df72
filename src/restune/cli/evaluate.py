"""restune evaluate."""

from __future__ import annotations

from typing import Annotated

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core import console


def evaluate(
    model: opt.ModelArgument,
    data: opt.DataArgument,
    weights: opt.Weights = None,
    split: Annotated[opt.Split | None, typer.Option(help="Which items; by default test, else val, else all.")] = None,
    on_corrupt: Annotated[
        opt.OnCorrupt, typer.Option(help="Stop at an unreadable item, or leave it out, list and count it.")
    ] = opt.OnCorrupt.error,
    class_order: Annotated[
        opt.ClassOrder,
        typer.Option(
            help="Match classes by name, or take the data's sorted classes to be the model's (such as ImageNet's "
            "folders n01440764)."
        ),
    ] = opt.ClassOrder.names,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score even if some of the model's classes have no items.")
    ] = False,
    batch_size: opt.BatchSize = 64,
    workers: opt.Workers = None,
    image_size: opt.ImageSize = None,
    crop: opt.Crop = None,
    interpolation: opt.Interpolation = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    path_column: opt.PathColumn = None,
    label_column: opt.LabelColumn = None,
    split_column: opt.SplitColumn = None,
    no_header: opt.NoHeader = False,
    root: opt.Root = None,
    encoding: opt.Encoding = "utf-8",
    data_root: opt.DataRoot = None,
    device: opt.DeviceOption = opt.Device.auto,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Score a model on labelled data: accuracy with its interval, top-5, per-class scores, confusion matrix.

    Example: restune evaluate resnet20 photos/ --weights resnet20.th
    """
    with verb(quiet):
        from restune.data.dataset import DataOptions
        from restune.verbs.evaluate import evaluate as run

        result = run(
            model,
            data,
            weights=weights,
            split=split and split.value,
            on_corrupt=on_corrupt.value,
            class_order=class_order.value,
            allow_missing=allow_missing,
            batch_size=batch_size,
            workers=workers,
            device=device.value,
            data_options=DataOptions(
                path_column=path_column,
                label_column=label_column,
                split_column=split_column,
                header=not no_header,
                root=root,
                encoding=encoding,
                data_root=data_root,
            ),
            **opt.preprocess_settings(image_size, crop, interpolation, mean, std),
        )
        if as_json:
            print_json(result.to_dict())
            return
        from restune.reporting import tables

        tables.show(*tables.evaluation_tables(result))
        rate = (result.n + len(result.skipped)) / max(result.seconds, 1e-9)
        console.note(f"{result.n} items in {result.seconds:.1f} s ({rate:.0f} a second, reading and loading included)")
