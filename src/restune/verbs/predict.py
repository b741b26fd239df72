"""predict: labels and probabilities for files, folders and patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import is_there, user_path
from restune.data.dataset import DataOptions, FileLocation, Item, Location
from restune.data.preprocess import NOUNS
from restune.data.sources import open_dataset, sentences
from restune.data.sources.clips import ClipLocation, clips_below
from restune.data.sources.folder import walk_images
from restune.data.sources.walk import walk_files
from restune.inference.model import Given, Model, Prediction, as_items
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
            series, or of lines of "label text", for its rows. Of a network that reads texts a ``str`` is a file where
            there is one, or where it is written like one's name, else the text.
        topk: how many classes to list.
        batch_size, workers: how much is computed at a time, and how many threads decode.
        data_options: how to read tables and files of series.

    Raises UserError for a model that cannot be loaded, and for inputs of no known kind.
    """
    loaded = load(model, weights=weights, device=device, **preprocess)
    items = _expand(inputs, replace(data_options or DataOptions(), kind=loaded.preprocess.kind), loaded.classes)
    return list(loaded.predict_items(items, topk, batch_size=batch_size, workers=workers))


@dataclass(frozen=True, slots=True)
class NothingThere:
    """In the place of a folder or a pattern that stands for no file."""

    reason: str

    def read(self) -> bytes:
        raise FileNotFoundError(self.reason)

    def signature(self) -> str:
        return ""


def _expand(inputs: Any, options: DataOptions, classes: Sequence[str]) -> list[Item]:
    one = isinstance(inputs, str | Path | bytes) or not isinstance(inputs, Iterable)
    if hasattr(inputs, "ndim"):
        one = not (inputs.ndim and (options.kind == "text" or getattr(inputs.dtype, "kind", None) in tuple("UTSO")))
    items: list[Item] = []
    for value in [inputs] if one else inputs:
        if isinstance(value, str | Path) and options.kind == "text":
            items.extend(_expand_text(value, options, classes))
        elif isinstance(value, str | Path):
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
    elif glob.has_magic(text):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        found = [file for file in map(Path, matches) if kind == "video" or not file.is_dir()]
        reason = "no file matches this pattern"
    else:
        return [_item(path, kind)]
    items = [item for file in found for item in _items_of(file, options)]
    return items or [Item(id=text, location=NothingThere(reason), target=-1)]


def _expand_text(given: str | Path, options: DataOptions, classes: Sequence[str]) -> list[Item]:
    """The items of a file or a folder of texts where there is one, else the text that was given.

    Raises nothing: a table that cannot be read, and the name of a file that is not there, is one unreadable item.
    """
    text, path = str(given), Path(given)
    if isinstance(given, Path) or (text and is_there(path)):
        if path.is_file():
            return _rows_of_lines(path, options, classes) or _readable_items(path, options)
        return _readable_items(path, options) if is_there(path) else _expand_path(path, options)
    if _is_name(text):
        return [_item(path, "text")]
    return [Item(id=text, location=Given(text), target=-1)]


def _readable_items(path: Path, options: DataOptions) -> list[Item]:
    try:
        return _expand_path(path, options)
    except UserError as error:
        reason = f"{error.what} ({error.fix})" if error.fix else error.what
        return [Item(id=str(path), location=NothingThere(reason), target=-1)]


def _is_name(text: str) -> bool:
    """Whether a text is written like the name of a file: without white space, and with a suffix, or in a folder that is
    there."""
    if not text or any(map(str.isspace, text)):
        return False
    path = Path(text)
    return path.suffix.lower() in _SUFFIXES or ("/" in text and is_there(path.parent) and len(path.parts) > 1)


def _rows_of_lines(path: Path, options: DataOptions, classes: Sequence[str]) -> list[Item]:
    """The texts of a file of lines of "label text", none of another file. It is one where the network has such labels:
    the lines of a poem begin with words that repeat, too."""
    if path.name.lower().endswith(_ROWS["text"]):
        return []
    try:
        if sentences.looks_like_lines(path, options):
            found = sentences.open_lines(path, options)
            if set(found.classes) & set(classes):
                return [replace(item, id=f"{path} {item.id}", target=-1) for item in found.items]
        with path.open("rb") as file:
            lines = file.read(_HEAD).count(b"\n")
    except (OSError, UserError):  # what is read as one text tells why it cannot be
        return []
    if lines >= _MANY_LINES:
        note(f"{path.name} is one text of many lines; lines of 'label text', or a table, are as many texts")
    return []


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
_SUFFIXES = (".txt", ".text", ".csv", ".tsv", ".parquet", ".all", ".data", ".json", ".jsonl", ".md")
"""What the name of a file of texts ends in."""
_MANY_LINES = 20
_HEAD = 2**20


def _items_of(file: Path, options: DataOptions) -> list[Item]:
    """A file as one item, or its rows."""
    kind = options.kind or "image"
    if not file.name.lower().endswith(_ROWS.get(kind, ())) or not _ROWS.get(kind):
        return [_item(file, kind)]
    return [replace(item, id=f"{file} {item.id}", target=-1) for item in open_dataset(file, options).items]


def _item(path: Path, kind: str) -> Item:
    location: Location = ClipLocation(path) if kind == "video" else FileLocation(path)
    return Item(id=str(path), location=location, target=-1)
