"""restune check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core import console

SERIOUS = 3
"""Exit status of --strict where something serious was found."""


@opt.takes(opt.on_data, opt.on_decisions, opt.on_device, opt.on_all_verbs)
def check(
    data: opt.DataArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for check.csv; by default runs/check-001 and so on.")] = None,
    val: Annotated[
        str | None, typer.Option(help="Other data that is used for validation, for leaks from DATA.", metavar="PATH")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Other data that is used for the test, for leaks from DATA.", metavar="PATH")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 if anything serious is found.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Threads that read items; by default one per core.", min=1)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network whose features judge labels and find outliers: a run, a model file or published weights. By "
            "default published weights in the cache, else features that need no training.",
            metavar="MODEL",
        ),
    ] = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Do not look for label errors and outliers.")] = False,
    **options: Any,
) -> None:
    """Find the faults of data before training on it: unreadable files, duplicates, leaks, odd images, classes.

    Example: restune check photos/ --strict
    """
    with verb(options["quiet"]):
        reading = opt.data_options(options)
        for one in (data, val, test):
            if one is not None:
                early.check_data(one, reading)
        if model is not None:
            early.check_model(model, None)
        from restune.verbs.check import check as run

        report = run(
            data,
            val=val,
            test=test,
            out=out,
            workers=workers,
            data_options=reading,
            model=model,
            labels=not no_labels,
            device=options["device"].value,
        )
        if options["as_json"]:
            print_json(report.to_dict())
        else:
            from restune.reporting import check_tables, layout

            layout.show(*check_tables.check_tables(report))
            console.note(f"{report.items} items in {report.seconds:.1f} s; all findings are in {report.out}/check.csv")
        if strict and report.serious:
            raise typer.Exit(SERIOUS)
