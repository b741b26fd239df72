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


@opt.takes(opt.on_data, opt.on_all_verbs)
def check(
    data: opt.DataArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for check.csv; by default runs/check-001 and so on.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 if anything serious is found.")] = False,
    **options: Any,
) -> None:
    """Find the faults of data before training on it: unreadable files, duplicates, leaks, odd images, classes.

    Example: restune check photos/ --strict
    """
    with verb(options["quiet"]):
        reading = opt.data_options(options)
        early.check_data(data, reading)
        from restune.verbs.check import check as run

        report = run(data, out=out, data_options=reading)
        if options["as_json"]:
            print_json(report.to_dict())
        else:
            from restune.reporting import check_tables, layout

            layout.show(*check_tables.check_tables(report))
            console.note(f"{report.items} items in {report.seconds:.1f} s; all findings are in {report.out}/check.csv")
        if strict and report.serious:
            raise typer.Exit(SERIOUS)
