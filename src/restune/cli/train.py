"""restune train and restune finetune."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restune.cli import early
from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core import console

if TYPE_CHECKING:
    from restune.data.dataset import DataOptions


@opt.takes(opt.on_training, opt.on_data, opt.on_device, opt.on_seed, opt.on_all_verbs)
def train(data: opt.DataArgument, **options: Any) -> None:
    """Train a residual network from scratch. The run folder receives the model, its scores and a report.

    Example: restune train photos/ --model resnet18 --time 30m
    """
    with verb(options["quiet"]):
        reading, settings = opt.data_options(options), opt.training_options(options)
        early.check_request("train", data, settings, reading)
        from restune.verbs.train import train as run

        finished = run(data, data_options=reading, **settings)
        _show(finished, _held_out(data, settings), reading, options)


@opt.takes(opt.on_training, opt.on_data, opt.on_device, opt.on_seed, opt.on_all_verbs)
def finetune(
    data: opt.DataArgument,
    weights: opt.Weights = None,
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
        from restune.verbs.finetune import finetune as run

        finished = run(data, data_options=reading, **settings)
        _show(finished, _held_out(data, settings), reading, options)


def _held_out(data: str, asked: dict[str, Any]) -> str:
    """The data with the held-out items that are worth scoring first: test data, else validation data of its own."""
    test, val = asked["test"], asked["val"]
    if isinstance(test, str):
        return test
    return val if isinstance(val, str) and not test else data


def _show(finished: Any, data: str, reading: DataOptions, options: dict[str, Any]) -> None:
    """Print the scores and the three commands to run next."""
    if not finished.result:  # only the first of several processes prints
        return
    if options["as_json"]:
        print_json(finished.result)
        return
    from restune.data.kinds import kind_of

    for split, name in (("val", "validation"), ("test", "test")):
        score = finished.result[split]
        if score is not None:
            low, high = score["interval"]
            what = "accuracy" if "clips" not in score else "video accuracy"
            print(f"{name} {what} {score['accuracy']:.2%} (95% interval {low:.2%} to {high:.2%}, n = {score['n']})")
            if "clips" in score:
                clips = score["clips"]
                print(f"{name} clip accuracy {clips['accuracy']:.2%} ({clips['n']} clips, each scored alone)")
    seconds, share = finished.result["seconds"], finished.result["loader_share"]
    spent = f"; data loading: {share:.1%} of training time" if share else ""
    console.note(f"{seconds:.0f} s in total{spent}")
    out = str(finished.out)
    if options["quiet"]:
        print(f"run {out}")
        return
    print(f"\nthe run is in {out}; next:")
    print(f"  open {shlex.quote(str(finished.out / 'report.html'))}")
    print("  " + shlex.join(["restune", "evaluate", out, data, *opt.data_words(reading)]))
    print(f"  restune predict {shlex.quote(out)} YOUR_{kind_of(finished.result['kind']).noun.upper()}")
