"""restune quickstart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say


@opt.takes(opt.on_device, opt.on_seed, opt.on_all_verbs)
def quickstart(
    out: Annotated[Path | None, typer.Option(help="Folder for the runs; by default runs/quickstart-001.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted quickstart, in --out or the last folder.")
    ] = False,
    **options: Any,
) -> None:
    """Train, fine-tune, evaluate, report and predict on scikit-learn's digits, in about a minute.

    Needs neither a network connection nor your own data.
    """
    with verb(options["quiet"]):
        from restune.verbs.quickstart import quickstart as run

        device = None if options["device"] == opt.Device.auto else options["device"].value
        journey = run(out, seed=options["seed"] or 0, device=device, resume=resume)
        if options["as_json"]:
            print_json(journey.to_dict())
            return
        for name, finished in (
            ("digits 0-4, trained from scratch", journey.first),
            ("digits 5-9, only a new head on that network", journey.tuned),
            ("all ten digits, trained from scratch", journey.complete),
        ):
            score = finished.result["test"]
            low, high = score["interval"]
            interval = f"95% interval {low:.1%} to {high:.1%}, n = {score['n']}"
            say(f"{name:45} test accuracy {score['accuracy']:.1%} ({interval})")
        say(f"{journey.image} is a {journey.prediction.label} ({journey.prediction.probability:.1%})")
        say(f"report: {journey.complete.out / 'report.html'}")
        if options["quiet"]:
            return
        say("\nto use your own data, a folder of class folders:")
        say("  restune train PHOTOS --model resnet18")
        say("  restune finetune PHOTOS --weights resnet18:v1")
        say("  restune predict runs/finetune-001 MORE_PHOTOS")
