"""restune runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say


@opt.takes(opt.on_all_verbs)
def runs(
    folder: Annotated[str, typer.Argument(help="The folder that holds the runs.", metavar="[FOLDER]")] = "runs",
    **options: Any,
) -> None:
    """List runs: data, model, validation and test accuracy, start and state. Reads saved files only.

    Example: restune runs experiments/ --json
    """
    with verb(options["quiet"]):
        from restune.verbs.runs import list_runs

        found = list_runs(folder)
        if options["as_json"]:
            print_json({"runs": [run.to_dict() for run in found]})
            return
        from restune.reporting.layout import show
        from restune.reporting.runs_table import runs_table

        if found:
            show(runs_table(run.to_dict() for run in found))
        say(f"{len(found)} run{'s' * (len(found) != 1)} in {folder}")
