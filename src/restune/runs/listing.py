"""The runs in a folder, from their saved files only: what was trained on what, and how it scored."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.data.sources.walk import is_hidden
from restune.runs.record import RunRecord, read_run_record

_RECIPE = "recipe.yaml"
_INSIDE = frozenset({"checkpoints", "evaluation"})
_SETTING = re.compile(r"^(model|epochs|time|seed): (.+)$", re.MULTILINE)
_SCORE = (
    *("accuracy", "interval", "n", "balanced_accuracy", "macro_f1"),
    *("task", "metric", "map", "micro_f1", "mae", "rmse", "r2"),
)
_MOST_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run as its folder describes it.

    Args:
        folder: of the run.
        verb: ``train`` or ``finetune``; None if unknown.
        data, model: their names; None if unknown.
        seed: of the run; None if unknown.
        state: ``finished``, ``unfinished`` (running or stopped) or ``damaged`` (a file cannot be read).
        epoch, epochs: epochs trained, and their planned number; None if unknown.
        val, test: ``accuracy``, its 95% ``interval``, ``n``, ``balanced_accuracy``, ``macro_f1``; None without. Of
            other tasks the scores that result.json has, and the ``metric`` that the interval is of.
        started: time of its first start, ISO 8601 in UTC.

    >>> info = restune.list_runs(run_folder)[0]
    >>> info.verb, info.model, info.state, info.val["n"]
    ('train', 'resnet8', 'finished', 4)
    """

    folder: Path
    verb: str | None
    data: str | None
    model: str | None
    seed: int | None
    state: str
    epoch: int | None
    epochs: int | None
    val: dict[str, Any] | None
    test: dict[str, Any] | None
    started: str

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune runs --json`` lists."""
        return {**asdict(self), "folder": str(self.folder)}


def runs_below(folder: Path) -> list[RunInfo]:
    """Describe the runs in a folder and its subfolders, in the order of their start. Raises UserError."""
    if not folder.is_dir():
        raise UserError(
            "there is no such folder",
            where=str(folder),
            fix="name the folder that holds the runs; without --out they are in runs/",
        )
    return sorted(map(_describe, _run_folders(folder)), key=lambda run: (run.started, str(run.folder)))


def _run_folders(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name) and name not in _INSIDE)
        if _RECIPE in files:
            yield Path(root)


def _describe(folder: Path) -> RunInfo:
    recipe = folder / _RECIPE
    damaged = False
    try:
        record = read_run_record(folder)
    except UserError:
        record, damaged = None, True
    try:
        result = _json(folder / "result.json")
        epoch = _epochs_trained(folder) if result is None else result["epochs"]
        scores = {split: _score(result and result[split]) for split in ("val", "test")}
        kept = dict(_SETTING.findall(_text(recipe)))
    except (OSError, ValueError, KeyError, TypeError):
        result, epoch, scores, kept, damaged = None, None, {"val": None, "test": None}, {}, True
    return RunInfo(
        folder=folder,
        verb=None if record is None else record.verb,
        data=None if record is None else record.data,
        model=None if kept.get("model", "null") == "null" else kept["model"].strip("'\""),
        seed=_number(kept.get("seed")),
        state="damaged" if damaged else "unfinished" if result is None else "finished",
        epoch=epoch,
        epochs=None if kept.get("time", "null") != "null" else _number(kept.get("epochs")),
        val=scores["val"],
        test=scores["test"],
        started=_started(record, recipe),
    )


def _started(record: RunRecord | None, recipe: Path) -> str:
    """Return the recorded time; of runs without, the time of the recipe's file."""
    if record is not None and record.started:
        return record.started
    return datetime.fromtimestamp(recipe.stat().st_mtime, UTC).isoformat(timespec="milliseconds")


def _epochs_trained(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return int(json.loads(lines[-1])["epoch"]) if lines else 0


def _score(split: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if split is None else {key: split[key] for key in _SCORE if key in split}


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(_MOST_BYTES)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
