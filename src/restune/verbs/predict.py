"""predict: labels and probabilities for files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from restune.core.files import is_there, user_path
from restune.data.dataset import DataOptions, FileLocation, Item, Location
from restune.data.preprocess import NOUNS
from restune.data.sources import open_dataset
from restune.data.sources.clips import ClipLocation, clips_below
from restune.data.sources.folder import walk_images
from restune.data.sources.walk import walk_files
from restune.inference.model import Model, Prediction, TextGiven, as_items
from restune.verbs.load import load


def predict(
    model: str | Path | Model,
    inputs: Any,
    *,
    weights: str | Path | None = None,
    topk: int = 5,
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    data_options: DataOptions | None = None,
    **preprocess: Any,
) -> list[Prediction]:
    """One prediction an input, in order; an input that cannot be read, or stands for no file, is reported in its
    place by `Prediction.error`.

    Args:
        model, weights, device, **preprocess: as `restune.load`.
        inputs: paths of files and folders, patterns such as ``photos/*.jpg``, or content as `Model.predict` takes
            it; one or many. A folder stands for the images (videos, sounds, texts) below it, and a table or a file of
            series for its rows. Of a network that reads texts a ``str`` is a file where there is one, else the text.
        topk: how many classes to list.
        batch_size, workers: how much is computed at a time, and how many threads decode.
        data_options: how to read tables and files of series.

    Raises UserError for a model that cannot be loaded, and for inputs of no known kind.
    """
    loaded = load(model, weights=weights, device=device, **preprocess)
    items = _expand(inputs, replace(data_options or DataOptions(), kind=loaded.preprocess.kind))
    return list(loaded.predict_items(items, topk, batch_size=batch_size, workers=workers))


@dataclass(frozen=True, slots=True)
class NothingThere:
    """In the place of a folder or a pattern that stands for no file."""

    reason: str

    def read(self) -> bytes:
        raise FileNotFoundError(self.reason)

    def signature(self) -> str:
        return ""


def _expand(inputs: Any, options: DataOptions) -> list[Item]:
    one = isinstance(inputs, str | Path | bytes) or not isinstance(inputs, Iterable) or hasattr(inputs, "ndim")
    items: list[Item] = []
    for value in [inputs] if one else inputs:
        if isinstance(value, str | Path):
            items.extend(_expand_path(value, options))
        else:
            items.extend(as_items([value], options.kind or "image"))
    return items


def _expand_path(given: str | Path, options: DataOptions) -> list[Item]:
    """The items that a path, a folder or a pattern stands for; one unreadable item where there is none."""
    text, kind = str(given), options.kind or "image"
    if not text:
        return [Item(id=text, location=NothingThere("an empty name"), target=-1)]
    path = user_path(text)
    if is_there(path):
        found = _files_of(path, kind)
        reason = f"there are no {NOUNS[kind]} in this folder"
    elif kind == "text" and isinstance(given, str) and not glob.has_magic(text):
        return [Item(id=text, location=TextGiven(text), target=-1)]
    elif glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        found = [file for file in map(Path, matches) if kind == "video" or not file.is_dir()]
        reason = "no file matches this pattern"
        if not found and kind == "text":
            return [Item(id=text, location=TextGiven(text), target=-1)]
    else:
        return [_item(path, kind)]
    items = [item for file in found for item in _items_of(file, options)]
    return items or [Item(id=text, location=NothingThere(reason), target=-1)]


def _files_of(path: Path, kind: str) -> list[Path]:
    """The file itself, or those of the kind below a folder; a folder of frames is one video."""
    if not path.is_dir():
        return [path]
    if kind == "image":
        return list(walk_images(path))
    if kind == "video":
        return list(clips_below(path))
    suffixes = SERIES_SUFFIXES if kind == "signal" else (".txt",)
    return list(walk_files(path, lambda name: name.lower().endswith(suffixes)))


SERIES_SUFFIXES = (".wav", ".ts", ".tsv")
_ROWS = {"signal": (".ts", ".tsv", ".csv", ".parquet", ".npz", ".txt"), "text": (".tsv", ".csv", ".parquet")}
"""Files that hold many items."""


def _items_of(file: Path, options: DataOptions) -> list[Item]:
    """A file as one item, or its rows."""
    kind = options.kind or "image"
    if not file.name.lower().endswith(_ROWS.get(kind, ())) or not _ROWS.get(kind):
        return [_item(file, kind)]
    return [replace(item, id=f"{file} {item.id}", target=-1) for item in open_dataset(file, options).items]


def _item(path: Path, kind: str) -> Item:
    location: Location = ClipLocation(path) if kind == "video" else FileLocation(path)
    return Item(id=str(path), location=location, target=-1)
