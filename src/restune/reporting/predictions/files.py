"""Files of predictions: rows appended to logs while they are computed, and the finished CSV or Parquet file."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from restune.core.errors import UserError
from restune.core.files import written_whole
from restune.core.rowlog import Finished, record_of, remove_leftovers, remove_log
from restune.reporting.predictions.rows import PredictionRows, Row, arrow_batch, arrow_schema, csv_bytes

if TYPE_CHECKING:
    import pyarrow as pa

FORMS = (".csv", ".parquet")
"""Suffixes of files of predictions."""
_ROW_GROUP = 65_536


def log_path(out: Path, rank: int = 0, size: int = 1) -> Path:
    """Return the file that a process appends to.

    >>> log_path(Path("a.csv")).name, log_path(Path("a.parquet")).name, log_path(Path("a.csv"), 1, 2).name
    ('a.csv', 'a.parquet.part', 'a.csv.process-1-of-2.part')
    """
    if size > 1:
        return out.with_name(f"{out.name}.process-{rank}-of-{size}.part")
    return out if out.suffix == ".csv" else out.with_name(f"{out.name}.part")


def reject_other_processes(out: Path, size: int) -> None:
    """Raise UserError if the file was begun by another number of processes."""
    logs = [log_path(out), *out.parent.glob(f"{glob.escape(out.name)}.process-*-of-*.part")]
    own = {log_path(out, rank, size) for rank in range(size)}
    for log in logs:
        if log.exists() and log not in own:
            begun = 1 if log == log_path(out) else int(log.name.rpartition("-of-")[2].removesuffix(".part"))
            raise UserError(
                f"this file was begun by {begun} processes, not by {size}",
                where=str(out),
                fix=f"start as many processes again, or delete {log.name} to start anew",
            )


def encoder(out: Path, size: int, rows: PredictionRows) -> tuple[bytes, Callable[[Sequence[Row]], bytes]]:
    """Return how a log begins, and the function that turns rows into what is appended to it."""
    if log_path(out, 0, size) == out:
        return csv_bytes([rows.names]), csv_bytes
    schema = arrow_schema(rows.columns())
    return bytes(schema.serialize()), lambda part: bytes(arrow_batch(part, schema).serialize())


def finish(out: Path, logs: Sequence[Path], rows: PredictionRows, finished: Finished) -> None:
    """Join the logs of all processes to the finished file, batch by batch, and delete them.

    Args:
        out: the file, which appears whole.
        logs: of the processes in their order; batch b of the inputs is in the log b modulo their number.
        rows: the columns.
        finished: of all processes.
    """
    remove_leftovers(out)
    replace(finished, size=0, content="").write(record_of(out))
    with ExitStack() as stack:
        batches = _in_turn([stack.enter_context(log.open("rb")) for log in logs])
        with written_whole(out) as temporary:
            if out.suffix == ".csv":
                _write_csv(temporary, rows, batches)
            else:
                _write_parquet(temporary, rows, batches)
    for log in logs:
        remove_log(log)


def _in_turn(logs: Sequence[BinaryIO]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    streams = [pa.ipc.open_stream(log) for log in logs]
    while True:
        for stream in streams:
            batch = next(stream, None)
            if batch is None:
                return
            yield batch


def _write_csv(path: Path, rows: PredictionRows, batches: Iterable[pa.RecordBatch]) -> None:
    with path.open("wb") as file:
        file.write(csv_bytes([rows.names]))
        for batch in batches:
            file.write(csv_bytes(zip(*(column.to_pylist() for column in batch.columns), strict=True)))


def _write_parquet(path: Path, rows: PredictionRows, batches: Iterable[pa.RecordBatch]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetWriter(path, arrow_schema(rows.columns()), compression="zstd") as writer:
        part: list[pa.RecordBatch] = []
        for batch in batches:
            part.append(batch)
            if sum(map(len, part)) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(part), row_group_size=2 * _ROW_GROUP)
                part = []
        if part:
            writer.write_table(pa.Table.from_batches(part), row_group_size=2 * _ROW_GROUP)
