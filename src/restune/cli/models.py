"""restune models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.networks import zoo


@opt.takes(opt.on_all_verbs)
def models(
    name: Annotated[str, typer.Argument(help="A network, or a pattern such as 'resnet*'.", metavar="[NAME]")] = "*",
    image_size: Annotated[int | None, typer.Option(help="Side of the input, pixels.", min=1)] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="An option of the network, such as spec.width=32, as for training.", metavar="spec.KEY=VALUE"
        ),
    ] = None,
    **options: Any,
) -> None:
    """List the networks with parameters, FLOPs and published weights; or show one, stage by stage.

    Example: restune models resnet50
    """
    with verb(options["quiet"]):
        if not zoo.list_models(name):
            early.check_networks([name], "NAME")
        changes = opt.network_options(assignments)
        from restune.verbs.models import models as run

        listed = run(name, image_size=image_size, **changes)
        if options["as_json"]:
            print_json({"models": [model.to_dict() for model in listed]})
            return
        from restune.reporting import tables

        tables.show(*(tables.model_tables(listed[0]) if len(listed) == 1 else [tables.zoo_table(listed)]))
