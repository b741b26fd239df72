"""restune embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb


@opt.takes(opt.on_inference, opt.on_data, opt.on_device, opt.on_all_verbs)
def embed(
    model: opt.ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="DATA as train and evaluate take it, or anything that predict takes: files, folders, patterns, tables "
            "of paths, or - for a list on standard input.",
            metavar="DATA|INPUT...",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: an .npz of features, labels, ids and classes, or a .csv or .parquet of one row "
            "per item.",
            metavar="FILE",
        ),
    ] = Path("features.npz"),
    **options: Any,
) -> None:
    """Write the embeddings (penultimate features) of each item, for other programs; cached ones are not computed again.

    Example: restune embed resnet50:v2 photos/ --out features.npz
    """
    with verb(options["quiet"]):
        from restune.verbs.embed import embed as run

        reading = opt.data_options(options)
        data = inputs[0] if len(inputs) == 1 and inputs[0] != "-" else opt.listed(inputs)
        made = run(model, data, out=out, data_options=reading, **opt.inference_options(options))
        count, width = made.features.shape
        if options["as_json"]:
            skipped = [{"item": item, "reason": reason} for item, reason in made.skipped]
            print_json({"out": str(out), "items": count, "features": width, "computed": made.computed,
                        "skipped": skipped})  # fmt: skip
        else:
            print(f"{count} items, {width} features each: {out}")
