"""DataFrames and Arrow tables: opened through the reader of table files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.data.dataset import DataOptions, Dataset

OpenTable = Callable[[Path, DataOptions], Dataset]
"""The reader of table files."""


def is_frame(data: Any) -> bool:
    """Return whether this is a table in memory: an Arrow table, or one with columns that Arrow can import."""
    if hasattr(data, "column_names") and hasattr(data, "features"):
        return False
    return hasattr(data, "columns") and any(
        hasattr(data, way) for way in ("__arrow_c_stream__", "to_arrow", "__dataframe__", "to_pandas")
    )


def open_frame(data: Any, options: DataOptions, open_table: OpenTable, name: str) -> Dataset:
    """Open a DataFrame through a temporary Parquet file. Raises UserError where it is empty or cannot be read."""
    import pyarrow as pa
    from pyarrow import parquet

    table = _as_arrow(data, name)
    if len(table) == 0:
        raise UserError("there are no items in this data", where=name, fix="give one row per item")
    with tempfile.TemporaryDirectory(prefix="restune-") as folder:
        path = Path(folder) / f"{name}.parquet"
        try:
            parquet.write_table(table, path)
        except pa.ArrowException as error:
            raise UserError(f"this {name} cannot be read: {str(error)[:200]}", where=name) from error
        try:
            made = open_table(path, replace(options, root=options.root or Path.cwd(), header=True))
        except UserError as error:
            where = None if error.where is None else error.where.replace(str(path), name)
            raise UserError(error.what, where=where, fix=error.fix) from error
    return replace(made, source=name)


def _as_arrow(data: Any, name: str) -> Any:
    """Convert a DataFrame to an Arrow table; columns of mixed types become text. Raises UserError."""
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    try:
        return pa.table(data) if hasattr(data, "__arrow_c_stream__") else _by_columns(data)
    except (pa.ArrowException, TypeError, ValueError):
        pass
    try:
        return _by_columns(data)
    except Exception as error:
        raise UserError(f"this {name} cannot be read: {str(error)[:200]}", fix="save it as .csv or .parquet") from error


def _by_columns(data: Any) -> Any:
    import pyarrow as pa

    if hasattr(data, "to_arrow"):
        return data.to_arrow()
    columns: dict[str, Any] = {}
    for column in data.columns:
        values = list(data[column])
        try:
            columns[str(column)] = pa.array(values, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError):
            texts = [None if value is None or value != value else str(value) for value in values]
            columns[str(column)] = pa.array(texts, pa.string())
    return pa.table(columns)
