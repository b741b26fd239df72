"""Checkpoints: a run's state on disk, written atomically, verified by SHA-256, pruned to the newest and the best."""

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
from restune.core.errors import UserError
from restune.core.files import cannot_write, sync, write_text

_KEEP = 2
_FILES = {"tensors.safetensors", "state.json"}


@dataclass(kw_only=True)
class TrainState:
    """The state from which a run resumes as if it had never stopped.

    Args:
        tensors: by section: ``network``, ``ema``, ``optimizer``.
        step: optimiser steps taken.
        epoch: completed epochs; equally, the index of the epoch being trained.
        batches: of that epoch, trained on so far.
        phase: index into the run's phases.
        phase_score, phase_loss: best score and validation loss at the beginning of this phase.
        phase_step: optimiser steps at the beginning of this phase.
        rate: the last learning rate.
        views: number of augmented copies per training image whose frozen features are cached in this phase; 0: no
            cache; None: not decided yet.
        val_loss: of the last validation.
        best_score: of the monitored metric; None before the first validation.
        best_loss: validation loss of the best epoch.
        best_epoch, best_step: epoch index and optimiser steps of the best score.
        stale_epochs: epochs since the score last improved by more than early stopping's `min_delta`.
        patience_score: that score; later ones are compared with it. None before the first validation.
        seconds: training time so far.
        aside: seconds of it outside the epochs.
        images: training images seen so far.
        epoch_loss: sum of the batches' losses in this epoch so far.
        micro_batch: items per forward pass, where a whole batch does not fit in memory.
        facts: data, versions, threads and machine that the results depend on.
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
    best_loss: float | None = None
    best_epoch: int | None = None
    best_step: int | None = None
    stale_epochs: int = 0
    patience_score: float | None = None
    seconds: float = 0.0
    aside: float = 0.0
    images: int = 0
    epoch_loss: float = 0.0
    micro_batch: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def begin_phase(self, index: int) -> None:
        """Move on to a phase, and note the scores and the step at its beginning."""
        self.phase, self.views = index, None
        self.phase_score, self.phase_loss, self.phase_step = self.best_score, self.val_loss, self.step

    def end_epoch(self) -> None:
        """Count the epoch as completed."""
        self.epoch += 1
        self.batches, self.epoch_loss = 0, 0.0

    def select(self, score: float, *, is_best: bool, improves: bool | None = None) -> None:
        """Note the score of the epoch just completed.

        Args:
            score: of the monitored metric.
            is_best: whether this epoch is the best so far.
            improves: whether its score counts as an improvement for early stopping; by default as `is_best`, which is
                also true of an epoch that wins a tie.
        """
        if is_best:
            self.best_score, self.best_epoch, self.best_step = score, self.epoch - 1, self.step
            self.best_loss = self.val_loss
        if is_best if improves is None else improves:
            self.stale_epochs, self.patience_score = 0, score
        else:
            self.stale_epochs += 1


def reject_changes(state: TrainState, facts: Mapping[str, Any], folder: Path) -> None:
    """Raise UserError where `facts` are not those of the run that wrote the state."""
    changed = [key for key, value in facts.items() if state.facts.get(key) != value]
    if changed:
        raise UserError(
            f"changed since this run stopped: {', '.join(changed)}",
            where=str(folder),
            fix="undo the change, or resume with --accept-changes",
        )


def write_checkpoint(folder: Path, state: TrainState) -> Path:
    """Write the state to a new folder below `folder`, atomically: temporary folder, sync, rename. Returns its path."""
    name = name_of(state.epoch, state.step)
    temporary = folder / f".{name}.tmp"
    final = folder / name
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        flat = {
            f"{section}:{key}": value for section, tensors in state.tensors.items() for key, value in tensors.items()
        }
        flat = {key: value.detach().cpu().contiguous() for key, value in flat.items()}
        safetensors.torch.save_file(flat, temporary / "tensors.safetensors")
        write_text(temporary / "state.json", json.dumps(asdict_without_tensors(state), sort_keys=True))
        sums = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        write_text(temporary / "manifest.json", json.dumps(sums, sort_keys=True))
        for file in temporary.iterdir():
            sync(file)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync(folder)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise cannot_write(final, error) from error
    return final


def name_of(epoch: int, step: int) -> str:
    """The folder name of the checkpoint after `epoch` completed epochs and `step` steps; names sort by age."""
    return f"epoch-{epoch:05d}-step-{step:08d}"


def read_checkpoint(folder: Path) -> TrainState | None:
    """Read the newest valid checkpoint below `folder`; skip damaged ones with a warning. Returns None without any."""
    for path in reversed(checkpoints(folder)):
        if is_valid(path):
            return read(path)
        warn(f"the checkpoint {path.name} is damaged and is skipped")
    return None


def read(path: Path) -> TrainState:
    """Read one checkpoint that `is_valid`."""
    flat = safetensors.torch.load_file(path / "tensors.safetensors")
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, value in flat.items():
        section, name = key.split(":", 1)
        tensors.setdefault(section, {})[name] = value
    return TrainState(tensors=tensors, **json.loads((path / "state.json").read_text(encoding="utf-8")))


def read_counts(folder: Path) -> TrainState | None:
    """Read the newest valid checkpoint without its tensors. Returns None without any."""
    path = next((path for path in reversed(checkpoints(folder)) if is_valid(path)), None)
    if path is None:
        return None
    return TrainState(tensors={}, **json.loads((path / "state.json").read_text(encoding="utf-8")))


def is_valid(path: Path) -> bool:
    """Whether every file of a checkpoint matches its hash in the manifest."""
    try:
        sums = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        return set(sums) == _FILES and all(_sha256(path / name) == digest for name, digest in sums.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(folder.glob("epoch-*")) if folder.is_dir() else []


def prune(folder: Path, best: str | None) -> None:
    """Delete all checkpoints but the newest two and the best, and the unfinished ones of a killed process."""
    for path in checkpoints(folder)[:-_KEEP]:
        if path.name != best:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".epoch-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def asdict_without_tensors(state: TrainState) -> dict[str, Any]:
    """The state without its tensors, for JSON."""
    shallow = TrainState(**{**state.__dict__, "tensors": {}})
    content = asdict(shallow)
    del content["tensors"]
    return content


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
