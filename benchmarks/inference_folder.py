"""Predict over a folder of photos, decode alone and compute alone, in a process of its own; used by inference.py."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

BATCH = 64
"""What `restune predict` takes by default."""


class FolderWorker:
    """One of restune's engines on a folder.

    Args:
        key: of its contender.
        work: folder of the model.
        photos, count: photos, and how many links to them.
    """

    def __init__(self, key: str, work: Path, photos: Path, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, key, work, photos, count), daemon=True)
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def turn(self, what: str) -> float:
        """Return images per second of ``decode``, ``compute`` or ``predict``."""
        self.pipe.send(what)
        return float(self.pipe.recv())

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def _work(pipe: Connection, key: str, work: Path, photos: Path, count: int) -> None:
    calls = _calls(key, work, photos, count)
    calls["compute"]()
    pipe.send("ready")
    while (what := pipe.recv()) is not None:
        began = time.perf_counter()
        done = calls[what]()
        pipe.send(done / (time.perf_counter() - began))


def _calls(key: str, work: Path, photos: Path, count: int) -> dict[str, Callable[[], int]]:
    """Return functions that do each part and return how many images they did."""
    from inference_contenders import CONTENDERS, restune_model
    from inference_inputs import folder_of_photos

    import restune
    from restune.core.allocator import freed_memory_kept
    from restune.core.console import quiet
    from restune.data.dataset import DataOptions
    from restune.data.inputs import expand
    from restune.data.loader import read_batches
    from restune.inference.model import predict_batch

    contender = next(one for one in CONTENDERS if one.key == key)
    model: Any = restune_model(work, contender.engine, contender.precision)
    links = folder_of_photos(work, photos, count)
    items = list(expand(links, DataOptions(kind="image"), model.classes))
    decoded = list(read_batches(items[: 2 * BATCH], model.preprocess, batch_size=BATCH))

    def decode() -> int:
        return sum(len(batch.items) for batch in read_batches(items, model.preprocess, batch_size=BATCH))

    def compute() -> int:
        with freed_memory_kept():
            rounds = max(1, len(items) // sum(len(batch.items) for batch in decoded) // 2)
            return sum(len(predict_batch(model, batch)) for _ in range(rounds) for batch in decoded)

    def predict() -> int:
        with quiet():
            return len(restune.predict(model, links, batch_size=BATCH))

    return {"decode": decode, "compute": compute, "predict": predict}
