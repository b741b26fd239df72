"""Arguments and options that several verbs share, each said once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from restune.core.errors import UserError


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


def preprocess_settings(
    image_size: int | None, crop: float | None, interpolation: str | None, mean: str | None, std: str | None
) -> dict[str, Any]:
    """What `restune.load` takes of them. Raises UserError for what is no list of numbers."""
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
