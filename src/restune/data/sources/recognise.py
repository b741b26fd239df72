"""Detect the kind of data from its first rows or files."""

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
from restune.data.sources.label_forms import label_columns
from restune.data.sources.sentences import TEXT_NAMES, is_text_name
from restune.data.sources.series import is_sound_name
from restune.data.sources.values import value_columns
from restune.data.sources.walk import walk_files

_LOOKED_AT = 1000
_PATHS = tuple(name for name in table.PATH_NAMES if not name.endswith(("url", "uri")))
"""Names of columns of paths; tables of texts may have a column of URLs, too."""
_FEW = 20
_SENTENCE = 20
"""Minimum characters of a value to be a text rather than a name."""


def folder_kind(folder: Path) -> str:
    """Return ``image``, ``signal`` or ``text``, from the first files that show it.

    Images win over sounds and texts, sounds over texts: captions and transcripts are stored beside their subject.
    """
    tests = {"image": is_image_name, "signal": is_sound_name, "text": is_text_name}
    files = walk_files(folder, lambda name: any(is_one(name) for is_one in tests.values()))
    names = [path.name for path in islice(files, _LOOKED_AT)]
    return next((kind for kind, is_one in tests.items() if any(map(is_one, names))), "image")


def table_kind(path: Path, options: DataOptions) -> tuple[str, DataOptions]:
    """Return ``image``, ``signal``, ``text`` or ``video``, and the completed options.

    Sets the column of texts, recordings or videos, and that a table has no header if its first line names a file or
    has a label of later lines.
    """
    rows = readers.first_rows(path, likely_encoding(path, options.encoding))
    if not rows:
        return options.kind or "image", options
    if options.header and not readers.is_typed(path):
        options = _without_header(path, rows, options)
    has_names = table.has_names(path, options)
    names = [name.strip() for name in rows[0]] if has_names else [str(place) for place in range(len(rows[0]))]
    rows = rows[1:] if has_names else rows
    if not has_names:
        options = _roles_without_names(names, rows, options)
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
    text_column = options.text_column or _text_column(names, rows, options)
    if options.kind == "text":
        return "text", replace(options, text_column=text_column)
    if options.path_column is not None or _files_column(names, rows, is_image_name):
        return "image", options
    has_path_name = _usual(names, _PATHS) and not (options.text_column or _usual(names, TEXT_NAMES))
    if text_column is not None and not has_path_name:
        return "text", replace(options, text_column=text_column)
    label = options.label_column or _usual(names, readers.LABEL_NAMES)
    taken = [
        label,
        *label_columns(names, options.label_column),
        options.split_column or _usual(names, table.SPLIT_NAMES),
        options.group_column,
    ]
    is_series = label and not has_path_name and len(value_columns(names, rows, taken)) > 1
    return ("signal" if is_series else "image"), options


def _without_header(path: Path, rows: Sequence[Sequence[str]], options: DataOptions) -> DataOptions:
    """Set the options of a table that certainly has no header.

    No field of its first line is a usual or given column name, and either one names a file, or columns are texts and
    one column is a label with few values that include the first line's.
    """
    first = [field.strip() for field in rows[0]]
    named = (options.path_column, options.text_column, options.label_column, options.split_column, options.group_column)
    known = (*table.PATH_NAMES, *readers.LABEL_NAMES, *table.SPLIT_NAMES, *TEXT_NAMES)
    if any(named) or _usual(first, known) or len(first) < 2 or any(len(row) != len(first) for row in rows):
        return options
    if options.kind != "text" and any(map(_is_file_name, first)):
        note(f"{path.name} has no header, its first line names a file: read as with --no-header")
        return replace(options, header=False)
    if len(rows) < 3:
        return options
    if len(first) > 2:
        return _headerless_texts(path, rows, options)
    for label, text in ((0, 1), (1, 0)):
        labels = [row[label] for row in rows]
        is_label = labels[0] in labels[1:] and len(set(labels)) <= min(_FEW, len(rows) // 2)
        is_text = " " in first[text].strip() and _mean_length(row[text] for row in rows) >= _SENTENCE
        if is_label and is_text and options.kind in (None, "text"):
            note(f"{path.name} has no header: labels from its column {label}, texts from {text} (as with --no-header)")
            return replace(options, header=False, label_column=str(label), text_column=str(text))
        if is_label and not first[label].replace(".", "").isdigit() and len({row[text] for row in rows}) == len(rows):
            note(f"{path.name} has no header, its first line has the label of later ones: read as with --no-header")
            return replace(options, header=False, label_column=str(label), path_column=str(text))
    return options


def _headerless_texts(path: Path, rows: Sequence[Sequence[str]], options: DataOptions) -> DataOptions:
    """Set the options of a table of three columns or more whose first line has a text and a label of later lines."""
    columns = list(zip(*rows, strict=True))
    labels = [
        place
        for place, values in enumerate(columns)
        if values[0] in values[1:] and len(set(values)) <= min(_FEW, len(rows) // 2)
    ]
    lengths = {place: _mean_length(values) for place, values in enumerate(columns) if place not in labels}
    texts = {
        place: length for place, length in lengths.items() if " " in columns[place][0].strip() and length >= _SENTENCE
    }
    if len(labels) != 1 or not texts or options.kind not in (None, "text"):
        return options
    text = max(texts, key=texts.__getitem__)
    more = f"; --text-column {','.join(map(str, sorted(texts)))} joins the texts" if len(texts) > 1 else ""
    note(
        f"{path.name} has no header: labels from its column {labels[0]}, texts from {text} (as with --no-header{more})"
    )
    return replace(options, header=False, label_column=str(labels[0]), text_column=str(text))


def _roles_without_names(names: Sequence[str], rows: Sequence[Sequence[str]], options: DataOptions) -> DataOptions:
    """Choose the columns of a headerless table: texts or files, and labels (the fewest distinct values)."""
    if options.label_column is not None or len(names) < 2:
        return options
    files = options.path_column or (None if options.kind == "text" else _files_column(names, rows, _is_file_name))
    text = None if files else options.text_column or _text_column(names, rows, options)
    if files is None and text is None:
        return options
    taken = (files, *(text or "").split(","), options.group_column, options.split_column)
    others = [place for place, name in enumerate(names) if name not in taken]
    if not others:
        return options
    label = min(others, key=lambda place: len({row[place] for row in rows if place < len(row)}))
    return replace(options, label_column=str(label), text_column=text, path_column=files)


def _is_file_name(name: str) -> bool:
    return is_image_name(name) or is_video_name(name) or is_sound_name(name)


def _text_column(names: Sequence[str], rows: Sequence[Sequence[str]], options: DataOptions) -> str | None:
    """Return the text column: by a usual name, else the one with the longest values if these are texts."""
    usual = _usual(names, TEXT_NAMES)
    if usual is not None:
        return usual
    taken = (
        options.label_column or _usual(names, readers.LABEL_NAMES),
        *label_columns(names, options.label_column),
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
    """Return the column most of whose values have a suffix of some kind of file."""
    for place, name in enumerate(names):
        values = [row[place].strip() for row in rows if place < len(row)]
        if values and 2 * sum(map(wanted, values)) > len(values):
            return name
    return None


def _is_film(name: str) -> bool:
    """Return whether a name has a video suffix that is not also an image suffix (as .gif is)."""
    return (is_video_name(name) or name.lower().endswith(".ts")) and not is_image_name(name)


def _usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    return readers.usual_column(names, usual)


def _mean_length(values: Iterable[str]) -> float:
    lengths = [len(value) for value in values]
    return sum(lengths) / max(1, len(lengths))


def columns_of(path: Path) -> list[str]:
    """Return a table's column names; none for anything else, such as a folder or a file that cannot be read."""
    try:
        if path.suffix.lower() not in (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json") or not path.is_file():
            return []
        rows = readers.first_rows(path, likely_encoding(path, None))
    except Exception:  # Arrow raises arbitrary exceptions on a damaged file; opening it says what is wrong
        return []
    return [name.strip() for name in rows[0]] if rows else []
