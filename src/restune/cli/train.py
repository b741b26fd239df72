"""restune train and restune finetune."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core import console


@opt.takes(opt.on_training, opt.on_data, opt.on_decisions, opt.on_device, opt.on_seed, opt.on_all_verbs)
def train(data: opt.OptionalDataArgument = None, **options: Any) -> None:
    """Train a residual network from scratch. The run folder receives the model, its scores and a report.

    Example: restune train photos/ --model resnet18 --time 30m
    """
    with verb(options["quiet"]):
        reading, settings = opt.data_options(options), opt.training_options(options)
        early.check_request("train", data, settings, reading)
        early.complete_resumed(settings)
        from restune.verbs.train import train as run

        finished = run(data, data_options=reading, **settings)
        _show(finished, options)


@opt.takes(opt.on_training, opt.on_data, opt.on_decisions, opt.on_device, opt.on_seed, opt.on_all_verbs)
def finetune(
    data: opt.OptionalDataArgument = None,
    weights: opt.PretrainedWeights = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="auto: fit the head, then unfreeze stages from the top while validation improves; all: fit only the "
            "head; none: train all layers; K: keep the stem and stages 1 to K frozen.",
            metavar="auto|all|none|K",
        ),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            help="Augmented copies per training image for frozen layers; the first is not augmented. Their activations "
            "are cached, so more copies cost time once. By default as many as --time allows, else 1.",
            min=1,
        ),
    ] = None,
    **options: Any,
) -> None:
    """Fine-tune a pretrained network on your data: replace its head, freeze or unfreeze its layers.

    Activations of frozen layers are computed once and cached for later runs (`restune cache`). With --freeze all the
    head is fitted by logistic regression; auto starts from that head.

    Example: restune finetune photos/ --weights resnet50:v2 --freeze auto
    """
    with verb(options["quiet"]):
        layers = int(freeze) if freeze is not None and freeze.isdigit() else freeze
        reading = opt.data_options(options)
        settings = {**opt.training_options(options), "weights": weights, "freeze": layers, "views": views}
        early.check_request("finetune", data, settings, reading)
        early.complete_resumed(settings)
        from restune.verbs.finetune import finetune as run

        finished = run(data, data_options=reading, **settings)
        _show(finished, options)


def _show(finished: Any, options: dict[str, Any]) -> None:
    """Print the scores and the commands to run next."""
    if options["as_json"]:
        if finished.result:
            print_json(_json(finished))
        return
    if not hasattr(finished, "runs"):
        if finished.result:  # only the first of several processes prints
            _show_run(finished, quiet=options["quiet"])
        return
    for seed, run in zip(finished.seeds, finished.runs, strict=True):
        console.say(f"seed {seed}: {', '.join(_scores(run.result)) or 'no held-out items'}")
    from restune.reporting.runs_table import seeds_lines

    console.say("\n".join(seeds_lines(finished.result)))
    console.say(f"\nthe runs are in {finished.out}; next:")
    print(f"  {shlex.join(['restune', 'runs', str(finished.out)])}")


def _json(finished: Any) -> dict[str, Any]:
    """Return the object that --json prints: a run's result, or that of several seeds with each run's."""
    result: dict[str, Any] = finished.result
    if hasattr(finished, "runs"):
        result = {**result, "runs": [{"out": str(run.out), **run.result} for run in finished.runs]}
    return result


def _scores(result: dict[str, Any]) -> list[str]:
    """Format the accuracy of each held-out split with its interval."""
    from restune.reporting.score_words import main_interval, main_score, more_scores

    lines = []
    for split, name in (("val", "validation"), ("test", "test")):
        score = result[split]
        if score is not None:
            low, high = main_interval(score)
            what = main_score(score) if "clips" not in score else f"video {main_score(score)}"
            lines.append(f"{name} {what} (95% interval {low} to {high}, n = {score['n']})")
            lines.extend(f"{name} {line}" for line in more_scores(score))
            if "clips" in score:
                clips = score["clips"]
                lines.append(f"{name} clip accuracy {clips['accuracy']:.2%} ({clips['n']} clips, each scored alone)")
    return lines


def _novelty_line(novelty: dict[str, Any]) -> str:
    """Format the share of held-out items that are called unlike the training data, beside the promised one."""
    split, name = ("val", "validation") if novelty["test"] is None else ("test", "test")
    measured = novelty[split]
    low, high = measured["interval"]
    return (
        f"novelty: {measured['false_alarm_rate']:.2%} of the {name} items are called unlike the training data (95% "
        f"interval {low:.2%} to {high:.2%}, n = {measured['n']}); promised {novelty['promised']:.0%}"
    )


def _show_run(finished: Any, *, quiet: bool) -> None:
    """Print a run's scores and the three commands to run next."""
    from restune.data.kinds import kind_of

    for line in _scores(finished.result):
        console.say(line)
    if "novelty" in finished.result:
        console.say(_novelty_line(finished.result["novelty"]))
    seconds, share = finished.result["seconds"], finished.result["loader_share"]
    spent = f"; data loading: {share:.1%} of training time" if share else ""
    console.note(f"{seconds:.0f} s in total{spent}")
    out = str(finished.out)
    if quiet:
        print(f"run {out}")
        return
    console.say(f"\nthe run is in {out}; next:")
    print(f"  open {shlex.quote(str(finished.out / 'report.html'))}")
    print("  " + shlex.join(["restune", "evaluate", out, *_held_out(finished.out)]))
    print(f"  restune predict {shlex.quote(out)} YOUR_{kind_of(finished.result['kind']).noun.upper()}")


def _held_out(folder: Path) -> list[str]:
    """The data with the held-out items that are worth scoring first: test data, else validation data of its own; and
    how it is read."""
    from restune.runs.record import option_words, read_run_record
    from restune.training.recipe import read_recipe

    record, recipe = read_run_record(folder), read_recipe(folder / "recipe.yaml")
    data = record.data if record is not None else "DATA"
    if isinstance(recipe.test, str):
        data = recipe.test
    elif isinstance(recipe.val, str) and not recipe.test:
        data = recipe.val
    if record is None:
        return [data]
    same = data == record.data  # the tables of items are those of DATA, not of other data
    options = record.options if same else replace(record.options, exclude=None, decisions=None)
    return [data, *option_words(options)]
