"""Of which kind data is, from a look at its first rows or files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from restune.core.console import note
from restune.data.dataset import DataOptions
from restune.data.encodings import likely_encoding
from restune.data.sources import readers, table
from restune.data.sources.clips import is_video_name
from restune.data.sources.folder import is_image_name
from restune.data.sources.sentences import TEXT_NAMES, is_text_name
from restune.data.sources.series import is_sound_name
from restune.data.sources.values import value_columns
from restune.data.sources.walk import walk_files

_LOOKED_AT = 1000
_FEW = 20
_SENTENCE = 20
"""Characters that make a value a text rather than a name."""


def folder_kind(folder: Path) -> str:
    """``image``, ``signal`` or ``text``, from the first files that say it.

    An image wins over sounds and texts, and a sound over texts: captions and transcripts lie beside what they describe.
    """
    tests = {"image": is_image_name, "signal": is_sound_name, "text": is_text_name}
    files = walk_files(folder, lambda name: any(is_one(name) for is_one in tests.values()))
    names = [path.name for path in islice(files, _LOOKED_AT)]
    return next((kind for kind, is_one in tests.items() if any(map(is_one, names))), "image")


def table_kind(path: Path, options: DataOptions) -> tuple[str, DataOptions]:
    """``image``, ``signal``, ``text`` or ``video``, and the options completed.

    Completed are the column of texts, of recordings or of videos, and that a table of two columns has no header, where
    its first line has a label of later ones.
    """
    rows = readers.first_rows(path, likely_encoding(path, options.encoding))
    if not rows:
        return options.kind or "image", options
    if options.header and options.kind in (None, "text"):
        options = _without_header(path, rows, options)
    has_names = table.has_names(path, options)
    names = [name.strip() for name in rows[0]] if has_names else [str(place) for place in range(len(rows[0]))]
    rows = rows[1:] if has_names else rows
    films = _files_column(names, rows, _is_film) if options.kind in (None, "video") else None
    if films is not None:
        return "video", replace(options, path_column=options.path_column or films)
    if options.kind in ("image", "video"):
        return options.kind, options
    sounds = _files_column(names, rows, is_sound_name) if options.kind != "text" else None
    if sounds is not None:
        return "signal", replace(options, path_column=options.path_column or sounds)
    if options.kind == "signal":
        return "signal", options
    if not has_names:
        options = _roles_without_names(names, rows, options)
    text_column = options.text_column or _text_column(names, rows, options)
    if options.kind == "text":
        return "text", replace(options, text_column=text_column)
    if options.path_column is not None or _files_column(names, rows, is_image_name):
        return "image", options
    has_path_name = _usual(names, table.PATH_NAMES) and not (options.text_column or _usual(names, TEXT_NAMES))
    if text_column is not None and not has_path_name:
        return "text", replace(options, text_column=text_column)
    label = options.label_column or _usual(names, table.LABEL_NAMES)
    taken = [label, options.split_column or _usual(names, table.SPLIT_NAMES), options.group_column]
    is_series = label and not has_path_name and len(value_columns(names, rows, taken)) > 1
    return ("signal" if is_series else "image"), options


def _without_header(path: Path, rows: Sequence[Sequence[str]], options: DataOptions) -> DataOptions:
    """The options of a table without a header, where this is one beyond doubt: two columns with no name that is known
    or named, one of them of few values, among them its first, the other of texts."""
    first = [field.strip() for field in rows[0]]
    named = (options.path_column, options.text_column, options.label_column, options.split_column, options.group_column)
    known = (*table.PATH_NAMES, *table.LABEL_NAMES, *table.SPLIT_NAMES, *TEXT_NAMES)
    if len(first) != 2 or any(named) or _usual(first, known) or len(rows) < 3 or any(len(row) != 2 for row in rows):
        return options
    for label, text in ((0, 1), (1, 0)):
        labels = [row[label] for row in rows]
        is_label = labels[0] in labels[1:] and len(set(labels)) <= min(_FEW, len(rows) // 2)
        if is_label and " " in first[text].strip() and _mean_length(row[text] for row in rows) >= _SENTENCE:
            note(f"{path.name} has no header: labels from its column {label}, texts from {text}")
            return replace(options, header=False, label_column=str(label), text_column=str(text))
    return options


def _roles_without_names(names: Sequence[str], rows: Sequence[Sequence[str]], options: DataOptions) -> DataOptions:
    """The label's column of a table without names, where it has a column of texts: the one of fewest values."""
    text = options.text_column or _text_column(names, rows, options)
    if options.label_column is not None or text is None or len(names) < 2:
        return options
    others = [place for place, name in enumerate(names) if name not in (text, options.group_column)]
    label = min(others, key=lambda place: len({row[place] for row in rows if place < len(row)}))
    return replace(options, label_column=str(label), text_column=text)


def _text_column(names: Sequence[str], rows: Sequence[Sequence[str]], options: DataOptions) -> str | None:
    """The column with a usual name, or the one of the longest texts where texts they are."""
    usual = _usual(names, TEXT_NAMES)
    if usual is not None:
        return usual
    taken = (
        options.label_column or _usual(names, table.LABEL_NAMES),
        options.split_column or _usual(names, table.SPLIT_NAMES),
        options.group_column,
        options.path_column,
    )
    lengths: dict[str, float] = {}
    for place, name in enumerate(names):
        column = [row[place] for row in rows if place < len(row)]
        spaced = sum(" " in value.strip() or not value.isascii() for value in column)
        if name not in taken and column and 2 * spaced > len(column):
            lengths[name] = _mean_length(column)
    longest = max(lengths, key=lengths.__getitem__, default=None)
    return longest if longest is not None and (options.kind == "text" or lengths[longest] >= _SENTENCE) else None


def _files_column(names: Sequence[str], rows: Sequence[Sequence[str]], wanted: Callable[[str], bool]) -> str | None:
    """The column most of whose values end like files of some kind."""
    for place, name in enumerate(names):
        values = [row[place].strip() for row in rows if place < len(row)]
        if values and 2 * sum(map(wanted, values)) > len(values):
            return name
    return None


def _is_film(name: str) -> bool:
    """Whether a name ends like a video's and not like an image's, as .gif does."""
    return is_video_name(name) and not is_image_name(name)


def _usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    lowered = {name.lower(): name for name in names}
    return next((lowered[name] for name in usual if name in lowered), None)


def _mean_length(values: Iterable[str]) -> float:
    lengths = [len(value) for value in values]
    return sum(lengths) / max(1, len(lengths))
