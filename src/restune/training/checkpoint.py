"""The state of a run on disk: written whole, checked by hashes, found again, pruned."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from restune.core.console import warn
from restune.core.files import cannot_write, sync, write_text

_KEEP = 2
_FILES = {"tensors.safetensors", "state.json"}


@dataclass(kw_only=True)
class TrainState:
    """Everything that a run must remember to go on as if it had never stopped.

    Args:
        tensors: by section: ``network``, ``ema``, ``optimizer``.
        step: optimiser steps taken.
        epoch: the epoch being trained, from 0.
        batches: of that epoch that training has consumed.
        phase: index into the run's phases.
        phase_score: the best score when this phase began.
        phase_loss: the validation loss then.
        phase_step: the steps taken then.
        rate: the last learning rate.
        views: of each item whose features under the frozen layers are kept, in this phase; 0 for none.
        val_loss: the last one.
        best_score: of the monitored metric, None before the first validation.
        best_epoch, best_step: when it was reached.
        stale_epochs: since the best.
        seconds: trained so far.
        aside: of these, what was no epoch.
        images: seen so far.
        epoch_loss: sum of losses in the epoch so far.
        micro_batch: items computed at a time, where a whole batch did not fit in memory.
        facts: threads, versions and machine that the numbers depend on.
    """

    tensors: dict[str, dict[str, Tensor]]
    step: int = 0
    epoch: int = 0
    batches: int = 0
    phase: int = 0
    phase_score: float | None = None
    phase_loss: float | None = None
    phase_step: int = 0
    rate: float = 0.0
    views: int | None = None
    val_loss: float | None = None
    best_score: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    stale_epochs: int = 0
    seconds: float = 0.0
    aside: float = 0.0
    images: int = 0
    epoch_loss: float = 0.0
    micro_batch: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_checkpoint(folder: Path, state: TrainState) -> Path:
    """Write the state into a new folder below `folder`: aside first, synced, then renamed. Returns the folder."""
    name = name_of(state.epoch, state.step)
    aside = folder / f".{name}.tmp"
    final = folder / name
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        flat = {
            f"{section}:{key}": value for section, tensors in state.tensors.items() for key, value in tensors.items()
        }
        flat = {key: value.detach().cpu().contiguous() for key, value in flat.items()}
        safetensors.torch.save_file(flat, aside / "tensors.safetensors")
        write_text(aside / "state.json", json.dumps(asdict_without_tensors(state), sort_keys=True))
        sums = {file.name: _sha256(file) for file in sorted(aside.iterdir())}
        write_text(aside / "manifest.json", json.dumps(sums, sort_keys=True))
        for file in aside.iterdir():
            sync(file)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        sync(folder)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise cannot_write(final, error) from error
    return final


def name_of(epoch: int, step: int) -> str:
    """The folder of the checkpoint after so many whole epochs and steps; names sort by age."""
    return f"epoch-{epoch:05d}-step-{step:08d}"


def read_checkpoint(folder: Path) -> TrainState | None:
    """The newest valid checkpoint below `folder`; damaged ones are skipped with a warning. None when there is none."""
    for path in reversed(checkpoints(folder)):
        if is_valid(path):
            return read(path)
        warn(f"the checkpoint {path.name} is damaged and is not used")
    return None


def read(path: Path) -> TrainState:
    """One checkpoint that `is_valid`."""
    flat = safetensors.torch.load_file(path / "tensors.safetensors")
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, value in flat.items():
        section, name = key.split(":", 1)
        tensors.setdefault(section, {})[name] = value
    return TrainState(tensors=tensors, **json.loads((path / "state.json").read_text(encoding="utf-8")))


def is_valid(path: Path) -> bool:
    """Whether every file of a checkpoint is what its manifest says."""
    try:
        sums = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return set(sums) == _FILES and all(_sha256(path / name) == digest for name, digest in sums.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(folder.glob("epoch-*")) if folder.is_dir() else []


def prune(folder: Path, best: str | None) -> None:
    """Keep the last two and the one named best; what a killed process left unfinished goes too."""
    for path in checkpoints(folder)[:-_KEEP]:
        if path.name != best:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".epoch-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def asdict_without_tensors(state: TrainState) -> dict[str, Any]:
    """The state's numbers."""
    shallow = TrainState(**{**state.__dict__, "tensors": {}})
    content = asdict(shallow)
    del content["tensors"]
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
