"""restune report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say


@opt.takes(opt.on_all_verbs)
def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="Folder of a finished run, or of several seeds; several are compared.", metavar="RUN..."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page to write; by default RUN/report.html, and for several runs comparison.html.", metavar="FILE"
        ),
    ] = None,
    **options: Any,
) -> None:
    """Draw a run's report again, or compare several runs on one page. Reads saved files only.

    Runs that differ in their seed only become mean and standard deviation; differences are paired where the models
    scored the same items.

    Example: restune report runs/train-001 runs/train-002
    """
    with verb(options["quiet"]):
        from restune.verbs.report import report as write

        written = write(runs, out=out)
        if options["as_json"]:
            print_json(written.to_dict())
            return
        if written.comparison is not None:
            from restune.core.language import current_language
            from restune.reporting.comparison_page import conclusion
            from restune.reporting.phrases import phrases

            for sentence in conclusion(written.comparison, phrases(current_language())):
                say(sentence)
        print(f"  open {shlex.quote(str(written.path))}")
