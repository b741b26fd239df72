"""restune models."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say
from restune.core.language import current_language, translated
from restune.networks import zoo


@opt.takes(opt.on_all_verbs)
def models(
    name: Annotated[
        str,
        typer.Argument(help="A network, a pattern ('resnet*'), a model file or a run's folder.", metavar="[NAME]"),
    ] = "*",
    second: Annotated[
        str | None, typer.Argument(help="Another network, to compare the two.", metavar="[NAME2]")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the drawing to this file.", metavar="FILE")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page: drawing with foldable stages, tables.", metavar="FILE")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change the network, such as spec.width=32 or spec.residual=false; of a network compared with itself, "
            "the second.",
            metavar="spec.KEY=VALUE",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="name, parameters, flops, activations, receptive_field or accuracy; after a minus, descending.",
            metavar="KEY",
        ),
    ] = None,
    filter: Annotated[
        str | None, typer.Option(help="List networks whose name, kind, source or weights contain this.", metavar="TEXT")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the input, pixels.", min=1)] = None,
    **options: Any,
) -> None:
    """List the networks with parameters, multiply-adds and published accuracy; draw one, or compare two.

    Example: restune models resnet50 --html resnet50.html
    """
    with verb(options["quiet"]):
        language = current_language()
        _check_names([name, *([second] if second else [])])
        changes = opt.network_options(assignments)
        from restune.verbs.models import compare, draw
        from restune.verbs.models import models as run

        if second is None:
            listed = run(name, image_size=image_size, sort=sort, filter=filter, **changes)
        else:
            listed = compare(name, second, image_size=image_size, spec_overrides=changes)
        written = []
        if svg or html:
            command = shlex.join(["restune", *sys.argv[1:]])
            written = draw(listed, svg=svg, html=html, lang=language, command=command)
        if options["as_json"]:
            _print_json(listed, written, compared=second is not None, lang=language)
        elif written:
            say("\n".join(f"written: {path}" for path in written))
        else:
            _show(listed, compared=second is not None, lang=language)


def _check_names(names: list[str]) -> None:
    """Raise UserError for names that neither the zoo, nor a file, nor published weights can have."""
    from restune.core.files import is_there, user_path
    from restune.weights.hub import is_published_reference

    for name in names:
        if not (zoo.list_models(name) or is_there(user_path(name)) or is_published_reference(name)):
            early.check_networks([name], "NAME")


def _print_json(listed: list[Any], written: list[Path], *, compared: bool, lang: str) -> None:
    from restune.weights import bundled

    content: dict[str, Any] = {"models": [model.to_dict(blocks=len(listed) <= 2) for model in listed]}
    if compared:
        from restune.reporting.structure.terminal import difference_lines

        content["differences"] = difference_lines(listed, lang)
    names = {model.name for model in listed}
    content["bundled"] = [one.to_dict() for one in bundled.listed() if one.model in names]
    if written:
        content["written"] = [str(path) for path in written]
    print_json(content)


def _show(listed: list[Any], *, compared: bool, lang: str) -> None:
    from restune.reporting import tables
    from restune.reporting.structure.terminal import difference_lines, terminal_lines
    from restune.weights import bundled

    if not compared and len(listed) > 1:
        names = {model.name for model in listed}
        inside = [one for one in bundled.listed() if one.model in names]
        tables.show(tables.zoo_table(listed), *([tables.bundled_table(inside)] if inside else []))
        return
    for model in listed:
        print("\n".join(terminal_lines(model, lang)), end="\n\n")
    if compared:
        print("\n".join([translated("differences"), *(f"  {line}" for line in difference_lines(listed, lang))]))
    else:
        tables.show(*tables.model_tables(listed[0]))
