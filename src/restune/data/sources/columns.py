"""A column of the table that items came from, which is neither content nor label: a camera, a site, an age."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restune.core.errors import UserError, did_you_mean, shorten
from restune.core.files import user_path
from restune.data.dataset import DataOptions, Dataset
from restune.data.encodings import likely_encoding
from restune.data.sources import TABLE_SUFFIXES
from restune.data.sources.readers import as_text, open_columns, table_errors


def column_by_id(data: Any, dataset: Dataset, name: str, options: DataOptions | None) -> dict[str, str]:
    """Return each item's value in a column of the table that it came from, by the item's id.

    Args:
        data: the table's path, or a data frame.
        dataset: all items of that table.
        name: of the column.

    Raises UserError for data that is not a table, an unknown column, and a table whose rows are not one item each.
    """
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        known = [str(column) for column in data.columns]
        _reject_unknown(name, known, "the data frame")
        values = ["" if value is None or value != value else str(value) for value in data[name]]
    else:
        values = _read(data, name, options or DataOptions(), dataset.source)
    ids = list(dataset.ids())
    if len(ids) != len(values):
        raise UserError(
            f"this table has {len(values)} rows for {len(ids)} items",
            where=f"--by {name}",
            fix="use a table with one item per row",
        )
    return dict(zip(ids, values, strict=True))


def _read(data: Any, name: str, options: DataOptions, source: str) -> list[str]:
    path = user_path(data) if isinstance(data, str | Path) else None
    if path is None or not path.is_file() or not path.name.lower().endswith(TABLE_SUFFIXES):
        raise UserError(
            "only tables have columns", where=f"--by {name}", fix=f"name a table ({', '.join(TABLE_SUFFIXES)}) as DATA"
        )
    with table_errors(path):
        reader = open_columns(path, options, encoding=likely_encoding(path, options.encoding), long_rows=True)
        names = [column.strip() for column in reader.names]
        _reject_unknown(name, names, source)
        place = names.index(name)
        values: list[str] = []
        for batch in reader.batches([place]):
            values.extend((text or "").strip() for text in as_text(batch[place]).to_pylist())
    return values


def _reject_unknown(name: str, known: Sequence[str], source: str) -> None:
    if name not in known:
        hint = did_you_mean(name, known) or f"it has {shorten(map(repr, known))}"
        raise UserError(f"there is no column {name!r} in {source}", where="--by", fix=hint)
