"""Write predictions to a file as they come; a command that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from restune.core.console import note
from restune.core.errors import UserError
from restune.core.interrupt import Interrupted, Terminated, noted
from restune.core.machine import cpu_count, local_processes, local_rank
from restune.core.rowlog import (
    Finished,
    RowLog,
    open_log,
    read_record,
    record_of,
    recorded_at,
    reject_foreign,
    remove_log,
)
from restune.data.dataset import DataOptions
from restune.data.inputs import expand
from restune.data.kinds import kind_of
from restune.data.threads import computing_threads
from restune.inference.model import Model, Prediction
from restune.reporting.predictions.files import encoder, finish, log_path, reject_other_processes
from restune.reporting.predictions.progress import PredictionProgress
from restune.reporting.predictions.rows import PredictionRows
from restune.reporting.predictions.share import Share
from restune.reporting.predictions.stream import PredictionStream

_POLL_SECONDS, _WAITING_SECONDS = 0.2, 60.0
Stopped = Callable[[], int | None]


@dataclass(frozen=True, kw_only=True)
class WrittenPredictions:
    """A file of predictions.

    Args:
        out: the file.
        inputs: number of its rows.
        failed: of these, the inputs that could not be read.
    """

    out: Path
    inputs: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class PredictionWriter:
    """One process's part of a file of predictions.

    Args:
        path: the finished file.
        share: which inputs are this process's.
        predictions: of these, lazily.
        columns: of the file.
        settings: what its rows depend on.
        count: counts all inputs; returns None where that is not known.
    """

    path: Path
    share: Share
    predictions: Iterator[Prediction]
    columns: PredictionRows
    settings: Mapping[str, Any]
    count: Callable[[], int | None]

    def write(self) -> WrittenPredictions | None:
        """Write this process's rows and, in the first process, the finished file. Raises UserError, Interrupted."""
        where = str(self.path)
        done = self._done_before(where)
        if done is not None:
            return done
        reject_other_processes(self.path, self.share.size)
        log = log_path(self.path, self.share.rank, self.share.size)
        header, encode = encoder(self.path, self.share.size, self.columns)
        try:
            with noted() as stopped:
                with open_log(log, self.settings, header) as opened:
                    if log != self.path and self.path.exists():  # another process has just joined all rows
                        remove_log(log)
                        return None
                    self._continue(opened, encode, stopped, where)
                return self._finish(opened.finished, log, stopped) if self.share.rank == 0 else None
        except (KeyboardInterrupt, Terminated) as error:
            if isinstance(error, Interrupted):
                raise
            number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
            raise Interrupted(number, self.path) from None

    def _done_before(self, where: str) -> WrittenPredictions | None:
        """Return the file if it is complete. Raises UserError for one of other settings, inputs or programs."""
        finished = reject_foreign(self.path)
        if finished is None or not self.path.exists():
            return None
        finished.reject_other(self.settings, self.path)
        if not finished.complete:
            return None
        self.share.skip(finished.listed, finished.inputs, where, recorded_at(self.path))
        self.share.reject_more(where)
        note(f"{self.path.name} was complete already")
        return WrittenPredictions(out=self.path, inputs=finished.listed, failed=finished.failed)

    def _continue(self, log: RowLog, encode: Callable[[Any], bytes], stopped: Stopped, where: str) -> None:
        """Append the rows that are missing."""
        share, finished = self.share, log.finished
        share.skip(finished.listed, finished.inputs, where, recorded_at(log.path))
        if finished.complete:
            share.reject_more(where)
            return
        if finished.rows:
            note(f"continuing {self.path.name} after {finished.listed:,} inputs")
        progress = PredictionProgress(done=finished.listed)
        shown = progress.shown(self.count) if share.rank == 0 else nullcontext()
        rows, failed = [], finished.failed
        with closing(self.predictions), shown:  # type: ignore[type-var]
            for prediction in self.predictions:
                rows.append(self.columns.row(prediction))
                failed += prediction.error is not None
                group = share.groups[0]
                if len(rows) < group.items:
                    continue
                share.groups.popleft()
                log.append(
                    encode(rows),
                    rows=log.finished.rows + len(rows), failed=failed, listed=group.listed, inputs=group.inputs,
                )  # fmt: skip
                rows = []
                progress.advance(group.listed)
                self._stop(log, stopped)
        log.save(listed=share.listed, inputs=share.inputs, complete=True)

    def _stop(self, log: RowLog, stopped: Stopped) -> None:
        number = stopped()
        if number is not None:
            log.save()
            raise Interrupted(number, self.path)

    def _finish(self, finished: Finished, log: Path, stopped: Stopped) -> WrittenPredictions:
        """Join the rows of all processes once they are complete."""
        size = self.share.size
        others = [log_path(self.path, rank, size) for rank in range(1, size)]
        records = [finished, *(self._await(other, finished, stopped) for other in others)]
        failed = sum(record.failed for record in records)
        if log != self.path:
            total = replace(finished, rows=finished.listed, failed=failed)
            finish(self.path, [log, *others], self.columns, total)
        return WrittenPredictions(out=self.path, inputs=finished.listed, failed=failed)

    def _await(self, log: Path, finished: Finished, stopped: Stopped) -> Finished:
        """Wait until another process has written its rows of the same inputs; return how far it got."""
        began = time.monotonic()
        while True:
            record = read_record(record_of(log))
            is_complete = record is not None and record.complete and record.inputs == finished.inputs
            if record is not None and is_complete and log.exists():
                record.reject_other(self.settings, log)
                return record
            number = stopped()
            if number is not None:
                raise Interrupted(number, self.path)
            time.sleep(_POLL_SECONDS)
            if time.monotonic() - began > _WAITING_SECONDS:
                began = time.monotonic()
                note(f"waiting for the process that writes {log.name}")


@contextmanager
def part_of_machine(size: int, device: str) -> Iterator[None]:
    """Compute with this process's GPU or share of the cores within this block. Raises UserError for too few GPUs."""
    if size == 1:
        yield
        return
    if device != "cpu" and torch.cuda.is_available():
        if torch.cuda.device_count() <= local_rank():
            raise UserError(
                f"this machine has {torch.cuda.device_count()} GPUs, too few for process {local_rank()}",
                where="torchrun --nproc-per-node",
                fix="start one process per GPU, or use --device cpu",
            )
        torch.cuda.set_device(local_rank())
    with computing_threads(max(1, cpu_count() // local_processes())):
        yield


def digest_of(model: Model) -> str:
    """Hash everything that predictions depend on but the preprocessing, which is compared by itself."""
    digest = hashlib.blake2b(digest_size=16)
    about = json.loads(replace(model.info, training={}, scores=(), name=None, licence=None).to_json())
    digest.update(json.dumps(about | {"preprocess": None}).encode())
    tensors = model.module.state_dict()
    if model.novelty is not None:
        tensors = {**tensors, "novelty": model.novelty.reference}
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def counter(inputs: Any, model: PredictionStream, reading: DataOptions | None) -> Callable[[], int | None]:
    """Return a function that counts the inputs: paths that can be listed twice, and quickly."""
    kind = kind_of(model.preprocess.kind)
    options = replace(reading or DataOptions(), kind=kind.name)
    if not kind.rows_are_paths or not isinstance(inputs, str | Path | list | tuple):
        return lambda: None
    return lambda: sum(1 for _ in expand(inputs, options, model.classes))
