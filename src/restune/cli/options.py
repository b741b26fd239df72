"""Arguments and options that several verbs share, each said once, in groups that a verb takes whole."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restune.core.errors import UserError

if TYPE_CHECKING:
    from restune.data.dataset import DataOptions

Verb = Callable[..., None]


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Kind(StrEnum):
    image = "image"
    video = "video"
    text = "text"
    signal = "signal"


class Monitor(StrEnum):
    val_accuracy = "val_accuracy"
    val_loss = "val_loss"
    train_loss = "train_loss"


ModelArgument = Annotated[
    str, typer.Argument(help="A model file, a run's folder, or a network's name with --weights.", metavar="MODEL")
]
DataArgument = Annotated[
    str,
    typer.Argument(
        help="A folder of class folders (of images, videos, .wav or .txt files), a .csv/.tsv/.parquet table, an .npz, "
        "a .tar(.gz), WebDataset shards ('name-{000..099}.tar' or their folder), series as .ts or .tsv, texts as "
        "'label text' lines, or a name such as digits.",
        metavar="DATA",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="A file, or a published name: resnet50:v2, ResNet50_Weights.IMAGENET1K_V2, timm:resnet50.a1_in1k, "
        "resnet20:cifar10.",
        metavar="NAME|FILE",
    ),
]


def on_all_verbs(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line; all else on standard error.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only results and warnings.")] = False,
) -> None:
    """How a verb prints."""


def on_device(device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto) -> None:
    """For verbs that compute."""


def on_seed(seed: Annotated[int | None, typer.Option(help="Of everything drawn at random.", min=0)] = None) -> None:
    """For verbs that draw at random."""


def on_inference(
    weights: Weights = None,
    batch_size: Annotated[int, typer.Option(help="Images computed at a time.", min=1)] = 64,
    workers: Annotated[
        int | None, typer.Option(help="Threads that decode images; one a core by default.", min=0)
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, pixels.")] = None,
    crop: Annotated[
        float | None,
        typer.Option(help="Share of the shorter side that the centre crop keeps; 0: no crop, the whole image."),
    ] = None,
    interpolation: Annotated[str | None, typer.Option(help="nearest, bilinear or bicubic.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="One number, or one a channel with commas, for pixels of 0..1.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
) -> None:
    """How a model is loaded and its input prepared; by default by the model's own preprocessing."""


def on_views(
    views: Annotated[
        str | None,
        typer.Option(
            help="Views whose probabilities are averaged: of images flip or five-crop (test-time augmentation), of "
            "videos spread (clips over the whole video, the default) or single (the centre clip)."
        ),
    ] = None,
) -> None:
    """Evaluation views."""


def on_data(
    kind: Annotated[Kind | None, typer.Option(help="What the items are, where the data does not say so.")] = None,
    path_column: Annotated[str | None, typer.Option(help="A table's column of paths.")] = None,
    text_column: Annotated[str | None, typer.Option(help="A table's column of texts.")] = None,
    label_column: Annotated[str | None, typer.Option(help="A table's column of labels.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="A table's column of groups (patients, scenes) that stay on one side of a split.")
    ] = None,
    split_column: Annotated[str | None, typer.Option(help="A table's column of train, val, test.")] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The table has no header; columns are 0, 1, ...")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="Folder the table's paths are relative to.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of a table or of texts, such as latin-1 or gb18030; found where not named.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where named data sets are, or are downloaded to.")] = None,
) -> None:
    """How DATA is read where it does not say so itself."""


def on_training(
    model: Annotated[str | None, typer.Option(help="A network's name; `restune models` lists them.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/VERB-001 and so on by default.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="default, series, sounds, text, video, finetune, finetune-series, finetune-text, finetune-video, "
            "cifar-fast, cifar-paper, imagenet-classic, or a YAML file such as a run's recipe.yaml. By default the "
            "kind of data decides."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How often each item is seen.", min=1)] = None,
    time: Annotated[
        str | None, typer.Option(help="A budget such as 90s, 10m, 1h30m; the schedule ends when it does.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items a step.", min=1)] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, pixels.", min=1)] = None,
    val: Annotated[
        str | None,
        typer.Option(help="Validation items: a share of train (0.2), other data, or 0 for none.", metavar="SHARE|PATH"),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Test items, touched once at the end: a share of train or other data.", metavar="SHARE|PATH"),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Of the arithmetic.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that make batches.", min=0)] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of arithmetic.", min=1)] = None,
    monitor: Annotated[Monitor | None, typer.Option(help="What decides which epoch is best.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on even though recipe or data changed.")
    ] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two batches, to see that all works.")] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any setting of the recipe, such as optimizer.weight_decay=1e-4.", metavar="KEY=VALUE"
        ),
    ] = None,
) -> None:
    """What decides a training run."""


def takes(*groups: Verb) -> Callable[[Verb], Verb]:
    """Give a verb whose last parameter is ``**options`` the options of these groups, as if it had listed them."""

    def decorate(function: Verb) -> Verb:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        hints = typing.get_type_hints(function, include_extras=True)
        for group in groups:
            own.extend(inspect.signature(group).parameters.values())
            hints.update(typing.get_type_hints(group, include_extras=True))
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(annotation=hints[p.name], kind=p.POSITIONAL_OR_KEYWORD) for p in own]
        )
        function.__annotations__ = {p.name: hints[p.name] for p in own}
        return function

    return decorate


def data_options(options: dict[str, Any]) -> DataOptions:
    """The group `on_data` taken out of a verb's options."""
    from restune.data.dataset import DataOptions

    taken = {name: options.pop(name) for name in inspect.signature(on_data).parameters}
    kind = taken.pop("kind")
    return DataOptions(header=not taken.pop("no_header"), kind=None if kind is None else kind.value, **taken)


def inference_options(options: dict[str, Any]) -> dict[str, Any]:
    """What `restune.load` and its callers take, from a verb's options. Raises UserError for what is no number."""
    taken = {name: options.pop(name) for name in inspect.signature(on_inference).parameters}
    taken["mean"], taken["std"] = numbers(taken["mean"], "--mean"), numbers(taken["std"], "--std")
    return {**taken, "device": options.pop("device").value}


def training_options(options: dict[str, Any]) -> dict[str, Any]:
    """What `restune.train` takes, from a verb's options. Raises UserError for assignments that are none."""
    from restune.training.recipe import parse_assignment

    taken = {name: options.pop(name) for name in inspect.signature(on_training).parameters}
    taken["set"] = dict(parse_assignment(text) for text in taken.pop("assignments") or ())
    taken["val"], taken["test"] = share_or_path(taken["val"]), share_or_path(taken["test"])
    named = {key: value.value if isinstance(value, StrEnum) else value for key, value in taken.items()}
    device = options.pop("device")
    seed = options.pop("seed")
    return {**named, "device": None if device == Device.auto else device.value, "seed": seed}


def share_or_path(text: str | None) -> float | str | None:
    """``0.2`` as a number, anything else as a path."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def listed(inputs: list[str]) -> Iterator[str]:
    """The inputs with ``-`` replaced by the lines of standard input, read as they are needed."""
    is_empty = True
    for text in inputs:
        for line in (line.rstrip("\r\n") for line in sys.stdin if line.strip()) if text == "-" else (text,):
            is_empty = False
            yield line
    if is_empty:
        raise UserError("standard input named no files", where="-", fix="give one path per line")


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """``0.5`` or ``0.485,0.456,0.406`` as numbers. Raises UserError."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{text!r} is no list of numbers", where=option, fix="write it like 0.485,0.456,0.406"
        ) from None
