"""Recognise a table of series without a header, by a first line that can only be a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from restune.core.console import note
from restune.data.dataset import DataOptions
from restune.data.encodings import likely_encoding
from restune.data.sources.readers import first_rows, is_typed
from restune.data.sources.series import is_value


def settle_header(path: Path, options: DataOptions) -> DataOptions:
    """Set the options of a headerless table: its first line has values and one label that later lines share.

    The options of other tables are unchanged, such as one whose column names are numbers.
    """
    named = (options.path_column, options.text_column, options.label_column, options.split_column, options.case_column)
    is_named = any(name is not None for name in named) or not options.header
    if is_named or options.kind not in (None, "signal") or is_typed(path):
        return options
    label = _label_place(first_rows(path, likely_encoding(path, options.encoding)))
    if label is None:
        return options
    note(f"{path.name} has no header: labels from its column {label}, values from the others")
    return replace(options, header=False, label_column=str(label), kind="signal")


def _label_place(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the index of the label field if all other fields, also of the first row, are numeric."""
    if len(rows) < 3 or len(rows[0]) < 3 or any(len(row) != len(rows[0]) for row in rows):
        return None
    texts = [place for place, field in enumerate(rows[0]) if not is_value(field)]
    if len(texts) != 1 or texts[0] not in (0, len(rows[0]) - 1):
        return None
    labels = [row[texts[0]].strip() for row in rows]
    repeats = labels[0] in labels[1:] and 2 * len(set(labels)) <= len(labels)
    are_numbers = all(is_value(field) for row in rows for place, field in enumerate(row) if place != texts[0])
    return texts[0] if repeats and are_numbers else None
