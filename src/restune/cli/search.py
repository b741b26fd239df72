"""restune search."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.console import say
from restune.core.errors import UserError


class TrainingVerb(StrEnum):
    train = "train"
    finetune = "finetune"


@opt.takes(opt.on_training, opt.on_data, opt.on_decisions, opt.on_device, opt.on_seed, opt.on_all_verbs)
def search(
    data: opt.DataArgument,
    of: Annotated[
        TrainingVerb | None,
        typer.Option("--verb", help="Whose settings; by default finetune with --weights or --freeze, else train."),
    ] = None,
    weights: opt.PretrainedWeights = None,
    freeze: Annotated[
        str | None, typer.Option(help="As of finetune; a space may contain it.", metavar="auto|all|none|K")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Number of trials, over all workers; 30 without --time.", min=1)
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of settings with ranges, {low: 1e-3, high: 1, log: true}, or lists of values.",
            metavar="FILE",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database shared by several workers, such as postgresql://host/name; by default a file in --out.",
            metavar="URL",
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study in the database.", metavar="NAME")] = None,
    folds: Annotated[
        int,
        typer.Option(
            help="Score trials by cross-validation in this many folds, for small data; 1: on the validation items.",
            min=1,
        ),
    ] = 1,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Share of the validation items that no trial is scored on: they tell whether the best beats the "
            "recipe's own settings. By default half of at least 100 items; 0: none.",
            min=0.0,
            max=0.9,
            metavar="SHARE",
        ),
    ] = None,
    **options: Any,
) -> None:
    """Choose settings on validation items, then make one run with the best. Test items are touched once, by that run.

    Trials share splits, decoded items and cached features; those that fall behind are stopped early. The same command
    on other machines, with the same --storage and --study, shares the work.

    Example: restune search photos/ --weights resnet50:v2 --freeze all --trials 50
    """
    with verb(options["quiet"]):
        layers = int(freeze) if freeze is not None and freeze.isdigit() else freeze
        reading, settings = opt.data_options(options), opt.training_options(options)
        for name in ("seeds", "smoke", "track", "accept_changes"):
            if settings.pop(name, None):
                option = f"--{name.replace('_', '-')}"
                raise UserError("this is for single runs, not for a search", where=option, fix="leave it out")
        time, out, resume = (settings.pop(name) for name in ("time", "out", "resume"))
        recipe, changes = settings.pop("recipe"), settings.pop("set")
        early.check_data(data, reading)
        if weights not in (None, "auto"):
            early.check_weights(weights)
        from restune.verbs.search import search as run

        found = run(
            data, verb=of and of.value, trials=trials, time=time, space=space, storage=storage, study=study,
            folds=folds, held_out=held_out, out=out, resume=resume, recipe=recipe, data_options=reading, set=changes,
            weights=weights, freeze=layers, **settings,
        )  # fmt: skip
        content = found.to_dict()
        if options["as_json"]:
            print_json(content)
            return
        from restune.reporting.searches import search_lines

        for line in search_lines(content):
            print(line)
        say(f"\nthe study is in {found.out}; next:")
        print(f"  open {shlex.quote(str(found.out / 'search.html'))}")
        if found.run is not None:
            print(f"  restune report {shlex.quote(str(found.run.out))}")
