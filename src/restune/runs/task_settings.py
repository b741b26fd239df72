"""The settings of a recipe that depend on the task: loss and monitored metric by default, and those without effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from restune.core.errors import UserError
from restune.training.recipe import Recipe

_LOSSES = {
    "single-label": ("cross-entropy", "binary-cross-entropy"),
    "multi-label": ("binary-cross-entropy",),
    "regression": ("huber", "squared-error"),
}
_MONITORS = {
    "single-label": ("val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_loss", "train_loss"),
    "multi-label": ("val_map", "val_macro_f1", "val_loss", "train_loss"),
    "regression": ("val_loss", "val_mae", "val_r2", "train_loss"),
}
_UNUSED: dict[str, dict[str, Any]] = {
    "single-label": {},
    "multi-label": {"class_weights": "none", "sampling": "uniform"},
    "regression": {"class_weights": "none", "sampling": "uniform", "label_smoothing": 0.0, "cutmix": 0.0},
}
"""Settings that a task does not have, with the value that means off."""


def settle_task(recipe: Recipe, task: str, has: Callable[[str], bool], *, own_loss: bool = False) -> Recipe:
    """Return the recipe with the task's loss and monitored metric; settings that only other tasks have are off.

    Args:
        has: whether a setting was requested.
        own_loss: whether a function takes the place of the recipe's loss, which then is the validation loss only.

    Raises UserError for a requested setting that the task does not have.
    """
    changes: dict[str, Any] = {}
    for key, allowed in (("loss", _LOSSES[task]), ("monitor", _MONITORS[task])):
        value = getattr(recipe, key)
        if value not in allowed:
            if (has(key) or task == "single-label") and not (key == "loss" and own_loss):
                raise UserError(
                    f"{key} {value} is not for {task} data",
                    where=f"--set {key}={value}",
                    fix=f"use {' or '.join(allowed)}",
                )
            changes[key] = allowed[0]
    for key, off in _UNUSED[task].items():
        if getattr(recipe, key) != off:
            if has(key):
                what = f"{key} has no effect here: the data is {task}"
                raise UserError(what, where=f"--set {key}", fix="leave it out")
            changes[key] = off
    return recipe.changed(changes) if changes else recipe
