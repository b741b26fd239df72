"""restune average."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb


class Method(StrEnum):
    greedy = "greedy"
    uniform = "uniform"


@opt.takes(opt.on_device, opt.on_all_verbs)
def average(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of finished runs of one network, with the same training and validation items.",
            metavar="RUN RUN...",
        ),
    ],
    method: Annotated[
        Method,
        typer.Option(
            help="greedy: beginning with the best run, add each that does not make the validation score worse; "
            "uniform: average all."
        ),
    ] = Method.greedy,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model; default runs/average-NNN.", metavar="DIR")
    ] = None,
    **options: Any,
) -> None:
    """Average the weights of several runs into one model, which costs no more than one of them.

    Runs that were fine-tuned from the same weights with different settings make good averages; runs from scratch do
    not.

    Example: restune average runs/finetune-001 runs/finetune-002 runs/finetune-003
    """
    with verb(options["quiet"]):
        from restune.verbs.average import average as run

        made = run(runs, method=method.value, out=out, device=options["device"])
        content = made.to_dict()
        if options["as_json"]:
            print_json(content)
            return
        from restune.reporting.averages import average_lines, average_table
        from restune.reporting.layout import show

        show(average_table(content["runs"]))
        for line in average_lines(content):
            print(line)
        print(f"  restune predict {shlex.quote(str(made.out))} INPUT")
