"""Writing checkpoints in a background thread, while training goes on."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from restune.core.console import warn
from restune.core.errors import UserError
from restune.training import checkpoint
from restune.training.checkpoint import TrainState
from restune.training.recipe import CheckpointRecipe


class CheckpointWriter:
    """Writes the checkpoints of one run.

    Args:
        folder: of the checkpoints.
        recipe: how often to write within an epoch.
        is_writer: False in all processes but the main one.
    """

    def __init__(self, folder: Path, recipe: CheckpointRecipe, *, is_writer: bool = True) -> None:
        self.folder, self.recipe, self.is_writer = folder, recipe, is_writer
        self.seconds_waited = 0.0
        self._written_at = time.monotonic()
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[Path] | None = None

    def is_due(self, state: TrainState) -> bool:
        """Whether to write the state within an epoch."""
        every, minutes = self.recipe.every_steps, self.recipe.every_minutes
        by_steps = every is not None and state.step % every == 0
        return by_steps or (minutes is not None and time.monotonic() - self._written_at >= 60 * minutes)

    def write(self, state: TrainState, *, now: bool = False) -> None:
        """Write a copy of the state in the background; training waits for the copy only.

        Args:
            state: never written with weights that are NaN or infinite.
            now: wait until the checkpoint is written, as with ``checkpoint.every_steps``.

        Raises:
            UserError: where this checkpoint, or the one before it, could not be written.
        """
        if not self.is_writer:
            return
        self.finish()
        started = time.perf_counter()
        copied = replace(
            state,
            tensors={section: {name: _copy(value) for name, value in tensors.items()}
                     for section, tensors in state.tensors.items()},
        )  # fmt: skip
        self.seconds_waited += time.perf_counter() - started
        self._written_at = time.monotonic()
        self._pending = self._pool.submit(self._write, copied)
        if now or self.recipe.every_steps is not None:
            self.finish()

    def finish(self) -> None:
        """Wait for the pending checkpoint. Raises UserError where it could not be written."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            started = time.perf_counter()
            pending.result()
            self.seconds_waited += time.perf_counter() - started

    def close(self) -> None:
        """Wait for the pending checkpoint, whether it succeeds or not, and end the thread."""
        self._pool.shutdown(wait=True)

    def best_tensors(self, state: TrainState) -> dict[str, dict[str, Tensor]] | None:
        """The tensors of the best epoch's checkpoint; None, with a warning, where it is missing or damaged."""
        self.finish()
        name = _best_name(state)
        if name is None:
            return None
        if not checkpoint.is_valid(self.folder / name):
            warn(f"the best checkpoint, {name}, is missing or damaged; the model gets the last weights instead")
            return None
        return checkpoint.read(self.folder / name).tensors

    def _write(self, state: TrainState) -> Path:
        bad = _first_not_finite(state)
        if bad is not None:
            raise UserError(
                f"{bad} is NaN or infinite at step {state.step}, epoch {state.epoch + 1}",
                where=str(self.folder),
                fix="lower the learning rate (--lr) or clip gradients (--set optimizer.clip_norm=1); the last good "
                "checkpoint remains",
            )
        path = checkpoint.write_checkpoint(self.folder, state)
        checkpoint.prune(self.folder, _best_name(state))
        return path


def _best_name(state: TrainState) -> str | None:
    if state.best_epoch is None or state.best_step is None:
        return None
    return checkpoint.name_of(state.best_epoch + 1, state.best_step)


def _copy(value: Tensor) -> Tensor:
    """A copy on the CPU, in memory of its own."""
    value = value.detach()
    return value.clone() if value.device.type == "cpu" else value.cpu()


def _first_not_finite(state: TrainState) -> str | None:
    """The name of the first tensor with a NaN or an infinity."""
    for tensors in state.tensors.values():
        for name, value in tensors.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                return name
    return None
