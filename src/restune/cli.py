"""The command line: parse, call a verb, show. No logic of its own, and no torch before a verb runs."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.core import console
from restune.core.errors import UserError

app = typer.Typer(
    name="restune",
    help="Residual networks you can trust and ship.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class OnCorrupt(StrEnum):
    error = "error"
    skip = "skip"


class ClassOrder(StrEnum):
    names = "names"
    data = "data"


class Split(StrEnum):
    train = "train"
    val = "val"
    test = "test"
    all = "all"


ModelArgument = Annotated[
    str, typer.Argument(help="A model file, a run's folder, or a network's name with --weights.", metavar="MODEL")
]
DataArgument = Annotated[
    str,
    typer.Argument(
        help="A folder of class folders, a .csv/.tsv/.parquet table, an .npz, a .tar(.gz), or a name such as digits.",
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
Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line; all else on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only results and warnings.")]
Seed = Annotated[int, typer.Option(help="For whatever is drawn at random; nothing is, in this verb.", min=0)]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]
BatchSize = Annotated[int, typer.Option(help="Images computed at a time.", min=1)]
Workers = Annotated[int | None, typer.Option(help="Threads that decode images; one a core by default.", min=0)]

_PREPROCESS = "How images are prepared (the model's own, unless named)"
ImageSize = Annotated[
    int | None, typer.Option(help="Side of the network's input, pixels.", rich_help_panel=_PREPROCESS)
]
Crop = Annotated[
    float | None,
    typer.Option(
        help="Share of the shorter side that the centre crop keeps; 0: no crop, the whole image is resized.",
        rich_help_panel=_PREPROCESS,
    ),
]
Interpolation = Annotated[str | None, typer.Option(help="nearest, bilinear or bicubic.", rich_help_panel=_PREPROCESS)]
Mean = Annotated[
    str | None,
    typer.Option(help="One number, or one a channel with commas, for pixels of 0..1.", rich_help_panel=_PREPROCESS),
]
Std = Annotated[str | None, typer.Option(help="As --mean.", rich_help_panel=_PREPROCESS)]

_TABLE = "How DATA is read (where it does not say so itself)"
PathColumn = Annotated[str | None, typer.Option(help="A table's column of paths.", rich_help_panel=_TABLE)]
LabelColumn = Annotated[str | None, typer.Option(help="A table's column of labels.", rich_help_panel=_TABLE)]
SplitColumn = Annotated[str | None, typer.Option(help="A table's column of train, val, test.", rich_help_panel=_TABLE)]
NoHeader = Annotated[
    bool, typer.Option("--no-header", help="The table has no header; columns are 0, 1, ...", rich_help_panel=_TABLE)
]
Root = Annotated[Path | None, typer.Option(help="Folder the table's paths are relative to.", rich_help_panel=_TABLE)]
Encoding = Annotated[str, typer.Option(help="Of a text table.", rich_help_panel=_TABLE)]
DataRoot = Annotated[
    Path | None, typer.Option(help="Where named data sets are, or are downloaded to.", rich_help_panel=_TABLE)
]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Residual networks you can trust and ship: load, score, predict."""
    if version:
        from restune import __version__

        print(f"restune {__version__}")
        raise typer.Exit


@app.command()
def evaluate(
    model: ModelArgument,
    data: DataArgument,
    weights: Weights = None,
    split: Annotated[Split | None, typer.Option(help="Which items; by default test, else val, else all.")] = None,
    on_corrupt: Annotated[
        OnCorrupt, typer.Option(help="Stop at an unreadable item, or leave it out, list and count it.")
    ] = OnCorrupt.error,
    class_order: Annotated[
        ClassOrder,
        typer.Option(
            help="Match classes by name, or take the data's sorted classes to be the model's (such as ImageNet's "
            "folders n01440764)."
        ),
    ] = ClassOrder.names,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score even if some of the model's classes have no items.")
    ] = False,
    batch_size: BatchSize = 64,
    workers: Workers = None,
    image_size: ImageSize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    mean: Mean = None,
    std: Std = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    no_header: NoHeader = False,
    root: Root = None,
    encoding: Encoding = "utf-8",
    data_root: DataRoot = None,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on labelled data: accuracy with its interval, top-5, per-class scores, confusion matrix.

    Example: restune evaluate resnet20 photos/ --weights resnet20.th
    """
    with _verb(quiet):
        from restune.data.dataset import DataOptions
        from restune.verbs.evaluate import evaluate as verb

        result = verb(
            model,
            data,
            weights=weights,
            split=split and split.value,
            on_corrupt=on_corrupt.value,
            class_order=class_order.value,
            allow_missing=allow_missing,
            batch_size=batch_size,
            workers=workers,
            device=device.value,
            data_options=DataOptions(
                path_column=path_column,
                label_column=label_column,
                split_column=split_column,
                header=not no_header,
                root=root,
                encoding=encoding,
                data_root=data_root,
            ),
            **_preprocess(image_size, crop, interpolation, mean, std),
        )
        if as_json:
            _print_json(result.to_dict())
            return
        from restune.reporting import tables

        tables.show(*tables.evaluation_tables(result))
        rate = (result.n + len(result.skipped)) / max(result.seconds, 1e-9)
        console.note(f"{result.n} items in {result.seconds:.1f} s ({rate:.0f} a second, reading and loading included)")


@app.command()
def predict(
    model: ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders, patterns, or - for a list on standard input.", metavar="INPUT..."),
    ],
    weights: Weights = None,
    topk: Annotated[int, typer.Option(help="How many classes to list for each input.", min=1)] = 5,
    csv_file: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    batch_size: BatchSize = 64,
    workers: Workers = None,
    image_size: ImageSize = None,
    crop: Crop = None,
    interpolation: Interpolation = None,
    mean: Mean = None,
    std: Std = None,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Label images: one line an input; what cannot be read is reported in its place and stops nothing.

    Example: restune predict model.safetensors photo.jpg holiday/ --csv
    """
    with _verb(quiet):
        from restune.verbs.predict import predict as verb

        predictions = verb(
            model,
            _listed(inputs),
            weights=weights,
            topk=topk,
            batch_size=batch_size,
            workers=workers,
            device=device.value,
            **_preprocess(image_size, crop, interpolation, mean, std),
        )
        if as_json and csv_file:
            raise UserError("--json and --csv ask for two forms at once", fix="choose one")
        if as_json:
            _print_json({"predictions": [prediction.to_dict() for prediction in predictions]})
        elif csv_file:
            _print_csv([prediction.to_dict() for prediction in predictions])
        else:
            from restune.reporting import tables

            tables.show(tables.predictions_table(predictions))
        if predictions and all(prediction.error is not None for prediction in predictions):
            raise UserError("none of the inputs could be read", where="INPUT", fix="see the reasons above")


@app.command()
def models(
    name: Annotated[str, typer.Argument(help="A network, or a pattern such as 'resnet*'.", metavar="[NAME]")] = "*",
    image_size: Annotated[int | None, typer.Option(help="Side of the input, pixels.", min=1)] = None,
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the networks with parameters, FLOPs and published weights; or show one, stage by stage.

    Example: restune models resnet50
    """
    with _verb(quiet):
        from restune.verbs.models import models as verb

        found = verb(name, image_size=image_size)
        if as_json:
            _print_json({"models": [model.to_dict() for model in found]})
            return
        from restune.reporting import tables

        tables.show(*(tables.model_tables(found[0]) if len(found) == 1 else [tables.zoo_table(found)]))


def main() -> None:
    """What ``restune`` runs."""
    # File names may hold bytes that are no UTF-8: they are read as they are, and printed escaped.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    app()


class _Terminated(BaseException):
    """SIGTERM: a job scheduler wants this process to end."""


def _terminate(_signal: int, _frame: object) -> None:
    raise _Terminated


@contextmanager
def _verb(quiet: bool) -> Iterator[None]:
    """Turn what a verb raises into a message and an exit status: 2 for the user's to mend, 1 for a fault of ours."""
    warnings.showwarning = _show_warning
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        with console.quiet(quiet):
            yield
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except (KeyboardInterrupt, _Terminated) as error:
        by_hand = isinstance(error, KeyboardInterrupt)
        print("interrupted" if by_hand else "terminated", file=sys.stderr)
        raise typer.Exit(130 if by_hand else 143) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        print(f"error: the results cannot be written: {error.strerror}", file=sys.stderr)
        raise typer.Exit(2) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception:
        traceback.print_exc()
        print("error: this is a fault of restune's; please report it with the lines above", file=sys.stderr)
        raise typer.Exit(1) from None


def _show_warning(message: Warning | str, category: type[Warning], *_where: Any, **_more: Any) -> None:
    """Warnings of ours as one line; those of libraries that a user cannot act on are left out."""
    if category.__module__.startswith("restune"):
        console.warn(str(message))


def _preprocess(
    image_size: int | None, crop: float | None, interpolation: str | None, mean: str | None, std: str | None
) -> dict[str, Any]:
    return {
        "image_size": image_size,
        "crop": crop,
        "interpolation": interpolation,
        "mean": _numbers(mean, "--mean"),
        "std": _numbers(std, "--std"),
    }


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{text!r} is no list of numbers", where=option, fix="write it like 0.485,0.456,0.406"
        ) from None


def _listed(inputs: list[str]) -> list[str]:
    """The inputs with ``-`` replaced by the lines of standard input."""
    listed: list[str] = []
    for text in inputs:
        listed.extend(line.rstrip("\r\n") for line in sys.stdin if line.strip()) if text == "-" else listed.append(text)
    if not listed:
        raise UserError("standard input named no files", where="-", fix="give one path a line")
    return listed


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False, allow_nan=False))


def _print_csv(predictions: list[dict[str, Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["input", "label", "probability", "error"])
    for row in predictions:
        writer.writerow([row["input"], row.get("label", ""), row.get("probability", ""), row.get("error", "")])
    print(buffer.getvalue(), end="")
