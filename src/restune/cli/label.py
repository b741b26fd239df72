"""restune label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core import console
from restune.core.errors import UserError
from restune.core.files import is_there, user_path


@opt.takes(opt.on_data, opt.on_seed, opt.on_device, opt.on_all_verbs)
def label(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of images, videos, .wav or .txt files, with or without class folders; or a table of which "
            "some rows, or none, have a label.",
            metavar="DATA",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Network whose features tell items apart: a run, whose training labels are then known; a model file "
            "or published weights. By default published weights in the cache, for images else those bundled with "
            "restune, else features that need no training.",
            metavar="MODEL",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="The labels that are known: a table of path and label, as the page saves.", metavar="FILE"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Names of the classes, where no label has them yet.", metavar="NAME,NAME"),
    ] = None,
    next: Annotated[int, typer.Option(help="Items to propose.", min=1)] = 50,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; by default runs/label-001 and so on.")] = None,
    **options: Any,
) -> None:
    """Propose the next items to label, say what more labels would bring, and write a page to label them by keyboard.

    Example: restune label photos/ --labels labels.csv --model resnet18:v1
    """
    with verb(options["quiet"]):
        reading = opt.data_options(options)
        early.check_data(data, reading)
        if model is not None:
            early.check_model(model, None)
        if labels is not None and not is_there(user_path(labels)):
            raise UserError("there is no such file", where=f"--labels {labels}", fix="check the path")
        from restune.verbs.label import label as run

        made = run(
            data,
            model=model,
            labels=labels,
            classes=tuple(one.strip() for one in (classes or "").split(",") if one.strip()),
            next=next,
            out=out,
            seed=options["seed"] or 0,
            device=options["device"].value,
            data_options=reading,
        )
        if options["as_json"]:
            print_json(made.to_dict())
            return
        from restune.reporting.label_page import gain_sentences

        for sentence in [] if made.curve is None else gain_sentences(made.curve):
            print(sentence)
        console.say(f"{len(made.proposed)} items to label next: open {made.out}/label.html")
        console.say("after labelling, train with the table that the page saves:")
        print(f"    {made.commands[0]}")
