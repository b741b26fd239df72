"""When a run's state is written, and the writing, which goes on beside the training."""

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
    """Writes checkpoints of one run.

    Args:
        folder: of the checkpoints.
        recipe: how often.
        is_writer: False for processes that leave writing to another.
    """

    def __init__(self, folder: Path, recipe: CheckpointRecipe, *, is_writer: bool = True) -> None:
        self.folder, self.recipe, self.is_writer = folder, recipe, is_writer
        self.written_at = time.monotonic()
        self.waited = 0.0
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[Path] | None = None

    def is_due(self, state: TrainState) -> bool:
        """Whether the state is to be written in the middle of an epoch."""
        every, minutes = self.recipe.every_steps, self.recipe.every_minutes
        by_steps = every is not None and state.step % every == 0
        return by_steps or (minutes is not None and time.monotonic() - self.written_at >= 60 * minutes)

    def keep(self, state: TrainState, *, now: bool = False) -> None:
        """Have a copy of the state written; `now`, and a recipe that counts steps, wait until it is. Raises UserError
        for this one or the last.

        The copy is what training waits for. Weights that are no longer numbers are never written.
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
        self.waited += time.perf_counter() - started
        self.written_at = time.monotonic()
        self._under_way = self._pool.submit(self._write, copied)
        if now or self.recipe.every_steps is not None:
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written. Raises UserError where it could not be."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            started = time.perf_counter()
            under_way.result()
            self.waited += time.perf_counter() - started

    def close(self) -> None:
        """Let go of the thread, whatever became of its work."""
        self._pool.shutdown(wait=True)

    def best(self, state: TrainState) -> dict[str, dict[str, Tensor]] | None:
        """The tensors of the best epoch's checkpoint; None, with a warning, where it is gone or damaged."""
        self.finish()
        name = _best_name(state)
        if name is None:
            return None
        if not checkpoint.is_valid(self.folder / name):
            warn(f"the best checkpoint, {name}, is missing or damaged: the last weights are kept instead")
            return None
        return checkpoint.read(self.folder / name).tensors

    def _write(self, state: TrainState) -> Path:
        bad = _not_numbers(state)
        if bad is not None:
            raise UserError(
                f"{bad} holds numbers that are not finite at step {state.step}, epoch {state.epoch + 1}",
                where=str(self.folder),
                fix="lower the learning rate (--lr) or clip gradients (--set optimizer.clip_norm=1); the last good "
                "checkpoint is kept",
            )
        path = checkpoint.write_checkpoint(self.folder, state)
        checkpoint.prune(self.folder, _best_name(state))
        return path


def _best_name(state: TrainState) -> str | None:
    if state.best_epoch is None or state.best_step is None:
        return None
    return checkpoint.name_of(state.best_epoch + 1, state.best_step)


def _copy(value: Tensor) -> Tensor:
    """On the CPU, in memory of its own."""
    value = value.detach()
    return value.clone() if value.device.type == "cpu" else value.cpu()


def _not_numbers(state: TrainState) -> str | None:
    """The first tensor with a NaN or an infinity."""
    for tensors in state.tensors.values():
        for name, value in tensors.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                return name
    return None
