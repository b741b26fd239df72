"""Arguments and options shared by several verbs, defined once, in groups that a verb includes whole."""

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
from restune.data.kinds import KINDS

if TYPE_CHECKING:
    from restune.data.dataset import DataOptions

Verb = Callable[..., None]


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Engine(StrEnum):
    auto = "auto"
    torch = "torch"
    onnx = "onnx"
    openvino = "openvino"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Monitor(StrEnum):
    val_accuracy = "val_accuracy"
    val_balanced_accuracy = "val_balanced_accuracy"
    val_macro_f1 = "val_macro_f1"
    val_map = "val_map"
    val_mae = "val_mae"
    val_r2 = "val_r2"
    val_loss = "val_loss"
    train_loss = "train_loss"


class Track(StrEnum):
    tensorboard = "tensorboard"
    mlflow = "mlflow"


ModelArgument = Annotated[
    str, typer.Argument(help="A model file, a run folder, or a network's name with --weights.", metavar="MODEL")
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
OptionalDataArgument = Annotated[
    str | None,
    typer.Argument(
        help=f"{typing.get_args(DataArgument)[1].help} With --resume by default the data that the run began with.",
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

PretrainedWeights = Annotated[
    str | None,
    typer.Option(
        help="A file, a run's folder, or a published name: resnet50:v2, ResNet50_Weights.IMAGENET1K_V2, "
        "timm:resnet50.a1_in1k, resnet20:cifar10. auto: of those bundled, in the cache and in runs/ the best by the "
        "cross-validated loss of a head on their features.",
        metavar="NAME|FILE|auto",
    ),
]


def on_all_verbs(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line; everything else on standard error.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only results and warnings.")] = False,
    lang: Annotated[
        str | None,
        typer.Option(
            help="Language of messages, tables and pages; RESTUNE_LANG sets another default.", metavar="en|zh"
        ),
    ] = None,
) -> None:
    """Options for output."""


def on_device(device: Annotated[Device, typer.Option(help="Device to compute on.")] = Device.auto) -> None:
    """Option of verbs that compute."""


def on_seed(seed: Annotated[int | None, typer.Option(help="Random seed.", min=0)] = None) -> None:
    """Option of verbs that draw random numbers."""


def on_inference(
    weights: Weights = None,
    batch_size: Annotated[int, typer.Option(help="Items per batch.", min=1)] = 64,
    workers: Annotated[
        int | None, typer.Option(help="Threads that decode images; by default one per core.", min=0)
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, pixels.", min=1)] = None,
    crop: Annotated[
        float | None,
        typer.Option(help="Share of the shorter side that the centre crop keeps; 0: no crop, the whole image."),
    ] = None,
    interpolation: Annotated[str | None, typer.Option(help="nearest, bilinear or bicubic.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="One number, or one per channel separated by commas, for pixels in 0..1.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
) -> None:
    """Options for loading a model and preparing its input; by default the model's own preprocessing."""


def on_views(
    views: Annotated[
        str | None,
        typer.Option(
            help="Views whose probabilities are averaged: for images flip or five-crop (test-time augmentation), for "
            "videos spread (clips over the whole video, the default) or single (the centre clip)."
        ),
    ] = None,
) -> None:
    """Option for evaluation views."""


def on_engine(
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="What computes the network: torch, ONNX Runtime or OpenVINO; auto: the fastest one here, where that "
            "is worth finding out. By default torch, of predict auto. Of an export onnx or openvino; by default "
            "whichever is there."
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Numeric precision, by default fp32; auto: bf16 where the processor multiplies it and answers agree."
        ),
    ] = None,
) -> None:
    """Options for the engine that computes the network."""


def on_data(
    kind: Annotated[
        str | None,
        typer.Option(metavar="|".join(KINDS), help="Kind of data, where it cannot be recognised."),
    ] = None,
    path_column: Annotated[str | None, typer.Option(help="A table's column of paths.")] = None,
    text_column: Annotated[
        str | None, typer.Option(help="A table's column of texts; several with commas are joined, such as title,body.")
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="A table's column of labels; several with commas: labels of 0 and 1, or numbers to predict."),
    ] = None,
    label_separator: Annotated[
        str | None, typer.Option(help="What separates several labels in one column, such as ';'; by default '|'.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="single-label|multi-label|regression",
            help="What the labels of a table are, where it cannot be recognised.",
        ),
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(help="A table's column of groups (patients, scenes) that must not span splits.")
    ] = None,
    split_column: Annotated[str | None, typer.Option(help="A table's column of train, val, test.")] = None,
    case_column: Annotated[
        str | None,
        typer.Option(help="Of a table with one row per time step: which series a row belongs to; several with commas."),
    ] = None,
    time_column: Annotated[str | None, typer.Option(help="Of such a table: the time of each row.")] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The table does not have a header; columns are 0, 1, ...")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="Folder the table's paths are relative to.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Encoding of tables and texts, such as latin-1 or gb18030; detected by default.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of named data sets; missing ones are downloaded there.")
    ] = None,
) -> None:
    """Options for reading DATA."""


def on_decisions(
    exclude: Annotated[
        Path | None,
        typer.Option(help="A check.csv: items whose suggestion begins with drop are left out.", metavar="CHECK.CSV"),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(
            help="A decisions.csv (columns item,decision,label): items to keep, relabel or drop.",
            metavar="DECISIONS.CSV",
        ),
    ] = None,
) -> None:
    """Options for leaving out and relabelling items."""


def on_training(
    model: Annotated[str | None, typer.Option(help="A network's name; `restune models` lists them.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/VERB-001 and so on.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="default, series, sounds, text, video, finetune, finetune-series, finetune-text, finetune-video, "
            "cifar-fast, cifar-paper, imagenet-classic, or a YAML file such as a run's recipe.yaml. The default "
            "depends on the kind of data."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs.", min=1)] = None,
    time: Annotated[
        str | None, typer.Option(help="Time budget such as 90s, 10m, 1h30m; the schedule ends with it.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items per step.", min=1)] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, pixels.", min=1)] = None,
    val: Annotated[
        str | None,
        typer.Option(help="Validation items: a share of train (0.2), other data, or 0 for none.", metavar="SHARE|PATH"),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(help="Test items, used once at the end: a share of train, or other data.", metavar="SHARE|PATH"),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Numeric precision.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that prepare batches.", min=0)] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for computation.", min=1)] = None,
    monitor: Annotated[Monitor | None, typer.Option(help="Metric that decides which epoch is best.")] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Number of runs, with --seed and the seeds after it; prints mean and standard deviation.", min=2
        ),
    ] = None,
    track: Annotated[
        Track | None,
        typer.Option(help="Log each epoch to TensorBoard (in the run's folder) or to MLflow (MLFLOW_TRACKING_URI)."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A trained model of the same classes whose probabilities the network learns as well as the labels "
            "(distillation).",
            metavar="MODEL",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the run in --out, with its own data and settings; with larger --epochs or --time also a "
            "finished one.",
        ),
    ] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Resume even though recipe or data changed.")
    ] = False,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Run two batches on a few items of each class, to check everything."),
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any setting of the recipe, such as optimizer.weight_decay=1e-4, or of the network: spec.width=32.",
            metavar="KEY=VALUE",
        ),
    ] = None,
) -> None:
    """Options for training."""


def takes(*groups: Verb) -> Callable[[Verb], Verb]:
    """Add the options of these groups to a verb whose last parameter is ``**options``."""

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
    """Take the groups `on_data` and, where the verb has it, `on_decisions` out of a verb's options."""
    from restune.data.dataset import DataOptions

    taken = {name: options.pop(name) for name in inspect.signature(on_data).parameters}
    taken |= {name: options.pop(name) for name in inspect.signature(on_decisions).parameters if name in options}
    kind = taken.pop("kind")
    return DataOptions(header=not taken.pop("no_header"), kind=kind, **taken)


def engine_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the group `on_engine` out of a verb's options; those that are not named are left out."""
    taken = {name: options.pop(name) for name in inspect.signature(on_engine).parameters}
    return {name: value.value for name, value in taken.items() if value is not None}


def inference_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments for `restune.load` out of a verb's options. Raises UserError for a mean or std that is not a
    number."""
    taken = {name: options.pop(name) for name in inspect.signature(on_inference).parameters}
    taken["mean"], taken["std"] = numbers(taken["mean"], "--mean"), numbers(taken["std"], "--std")
    return {**taken, "device": options.pop("device").value}


def training_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments for `restune.train` out of a verb's options. Raises UserError for malformed assignments."""
    from restune.training.recipe import parse_assignment

    taken = {name: options.pop(name) for name in inspect.signature(on_training).parameters}
    taken["set"] = dict(parse_assignment(text) for text in taken.pop("assignments") or ())
    taken["val"], taken["test"] = share_or_path(taken["val"]), share_or_path(taken["test"])
    named = {key: value.value if isinstance(value, StrEnum) else value for key, value in taken.items()}
    device = options.pop("device")
    seed = options.pop("seed")
    return {**named, "device": None if device == Device.auto else device.value, "seed": seed}


def network_options(assignments: list[str] | None) -> dict[str, Any]:
    """Read ``spec.KEY=VALUE`` assignments as the options of `create_model`. Raises UserError for other keys."""
    from restune.core.errors import did_you_mean
    from restune.runs.network_options import NETWORK_OPTIONS
    from restune.training.recipe import parse_assignment

    changes: dict[str, Any] = {}
    for key, value in map(parse_assignment, assignments or ()):
        name = key.removeprefix("spec.")
        if name == key or name not in NETWORK_OPTIONS:
            keys = [f"spec.{option}" for option in NETWORK_OPTIONS]
            meant = f"Did you mean 'spec.{key}'?" if key in NETWORK_OPTIONS else did_you_mean(key, keys)
            raise UserError(
                f"{key!r} is not an option of a network", where=f"--set {key}", fix=meant or f"use {', '.join(keys)}"
            )
        changes[name] = value
    return changes


def share_or_path(text: str | None) -> float | str | None:
    """Convert ``0.2`` to a number; return anything else as a path."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def listed(inputs: list[str]) -> Iterator[str]:
    """Yield the inputs with ``-`` replaced by the lines of standard input, read as they are needed."""
    is_empty = True
    for text in inputs:
        for line in (line.rstrip("\r\n") for line in sys.stdin if line.strip()) if text == "-" else (text,):
            is_empty = False
            yield line
    if is_empty:
        raise UserError("standard input lists no files", where="-", fix="write one path per line")


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Parse ``0.5`` or ``0.485,0.456,0.406``. Raises UserError."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{text!r} is not a list of numbers", where=option, fix="write it like 0.485,0.456,0.406"
        ) from None
