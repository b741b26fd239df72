"""restune embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say
from restune.core.files import EMBEDDING_SUFFIXES, named_as


@opt.takes(opt.on_inference, opt.on_data, opt.on_device, opt.on_all_verbs)
def embed(
    model: opt.ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="DATA as in train and evaluate, or any input of predict: files, folders, patterns, tables of paths, "
            "or - for a list on standard input.",
            metavar="DATA|INPUT...",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .npz (features, labels, ids, classes), or .csv or .parquet with one row per item.",
            metavar="FILE",
        ),
    ] = Path("features.npz"),
    **options: Any,
) -> None:
    """Write the embeddings (penultimate features) of items for other programs. Cached ones are not computed again.

    Example: restune embed resnet50:v2 photos/ --out features.npz
    """
    with verb(options["quiet"]):
        reading, inference = opt.data_options(options), opt.inference_options(options)
        early.check_inference(model, inference)
        named_as(out, EMBEDDING_SUFFIXES, "embeddings")
        from restune.verbs.embed import embed as run

        data = inputs[0] if len(inputs) == 1 and inputs[0] != "-" else opt.listed(inputs)
        embedded = run(model, data, out=out, data_options=reading, **inference)
        count, width = embedded.features.shape
        if options["as_json"]:
            skipped = [{"item": item, "reason": reason} for item, reason in embedded.skipped]
            print_json({"out": str(out), "items": count, "features": width, "computed": embedded.computed,
                        "skipped": skipped})  # fmt: skip
        else:
            say(f"{count} items, {width} features each: {out}")
