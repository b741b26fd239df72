"""metrics.jsonl and timings.jsonl: a line an epoch, cut back to the checkpoint that a run goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.core.files import write_text

_MANY = 60
"""Epochs beyond which not each has a line on the screen, unless it is the best so far."""
_NAMES = ("metrics.jsonl", "timings.jsonl")


class MetricsLog:
    """The two files of a run.

    Args:
        folder: the run's.
        is_writer: False for processes that leave writing to another.
        epochs: of the run; None where the clock decides.
        noun: what the items are.
    """

    def __init__(self, folder: Path, *, is_writer: bool, epochs: int | None, noun: str = "images") -> None:
        self.folder, self.is_writer, self.epochs, self.noun = folder, is_writer, epochs, noun

    def add(self, record: Mapping[str, Any], timing: Mapping[str, Any] | None = None) -> None:
        """Append one epoch's line to each file."""
        for name, content in zip(_NAMES, (record, timing), strict=True):
            if content is not None and self.is_writer:
                path = self.folder / name
                before = path.read_text(encoding="utf-8") if path.exists() else ""
                write_text(path, f"{before}{json.dumps(content)}\n")

    def cut_to(self, epoch: int) -> None:
        """The checkpoint is the only truth: lines of later epochs go."""
        for name in _NAMES:
            path = self.folder / name
            if path.exists() and self.is_writer:
                lines = path.read_text(encoding="utf-8").splitlines()
                write_text(path, "".join(f"{line}\n" for line in lines if json.loads(line)["epoch"] <= epoch))

    def say(self, record: Mapping[str, Any], timing: Mapping[str, Any], *, is_best: bool) -> None:
        """The epoch in a line on the screen."""
        if self.epochs is not None and self.epochs > _MANY and not is_best:
            every = -(-self.epochs // (_MANY // 2))
            if record["epoch"] % every and record["epoch"] != self.epochs:
                return
        of = "" if self.epochs is None else f"/{self.epochs}"
        text = f"epoch {record['epoch']}{of}  loss {record['train_loss']:.4f}"
        what = "val accuracy" if self.noun != "clips" else "val accuracy of centre clips"
        if "val_accuracy" in record:
            text += f"  val loss {record['val_loss']:.4f}  {what} {record['val_accuracy']:.2%}"
        text += f"  {timing['images_per_second']:.0f} {self.noun}/s  {timing['seconds']:.1f} s"
        note(text + ("  best" if is_best else ""))
