"""Resume a run with more epochs or a longer time budget than it was planned for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError
from restune.training.recipe import Recipe

if TYPE_CHECKING:
    from restune.training.checkpoint import TrainState


def lengthened(folder: Path, stored: Recipe, requested: Recipe) -> Recipe:
    """Return the run's recipe with the requested length, and its present one noted as an earlier length.

    Steps that the run has taken keep the schedule that they followed; the rest follows the schedule of the new length,
    from where that schedule is at this share of the run. A finished run's rate therefore goes up again, then anneals.

    Args:
        folder: of the run.
        stored: its recipe.
        requested: the recipe that resumes it.

    Returns `stored` if the request is not longer. Raises UserError if the run cannot be lengthened to that.
    """
    old, new = _length(stored), _length(requested)
    if new is None or new == old or (old is not None and old[0] == new[0] and new[1] < old[1]):
        return stored
    unit, value = new
    option = f"--{unit}"
    if stored.fits_head:
        raise UserError(
            "this run fitted its head by logistic regression: there is nothing to train longer",
            where=f"{folder}, {option}",
            fix="leave the option out, or start another run with --out and --freeze auto",
        )
    if stored.freeze == "auto" and old is not None and old[0] != unit:
        raise UserError(
            f"gradual unfreezing was planned by {old[0]}, and cannot go on by {unit}",
            where=f"{folder}, {option}",
            fix=f"use --{old[0]} with a larger value",
        )
    from restune.training.checkpoint import read_counts  # imports torch

    state = read_counts(folder / "checkpoints")
    if state is None:
        if (folder / "result.json").exists():
            raise UserError(
                "this run does not have a valid checkpoint to continue from",
                where=str(folder / "checkpoints"),
                fix="fine-tune its model: restune finetune DATA --weights "
                f"{folder / 'model.safetensors'} --freeze none --out ANOTHER",
            )
        return stored.changed(_new_length(stored, requested))
    _reject_shorter(state, unit, value, folder)
    lengths = [length.model_dump() for length in stored.lengthened]
    if state.step > (lengths[-1]["until_step"] if lengths else 0):
        before = {"epochs": stored.epochs} if stored.time is None else {"time": stored.time}
        lengths.append({**before, "until_step": state.step})
    return stored.changed({**_new_length(stored, requested), "lengthened": lengths})


def describe_lengthening(recipe: Recipe, state: TrainState, rate: float, next_rate: float) -> str:
    """Describe what the new length means for the schedule, in two sentences.

    Args:
        rate, next_rate: learning rate of the last step and of the next.
    """
    last = recipe.lengthened[-1]
    before = f"{last.epochs} epochs" if last.time is None else f"{last.time:g} s"
    now = f"{recipe.epochs} epochs" if recipe.time is None else f"{recipe.time:g} s"
    done = f"{state.epoch} epochs are trained on a schedule of {before}"
    goes = "goes on at" if abs(next_rate - rate) <= 1e-12 + 0.01 * rate else f"goes from {rate:.3g} to"
    return (
        f"{done}; from step {state.step + 1} on the run follows the {recipe.schedule.name} schedule of {now}: "
        f"the learning rate {goes} {next_rate:.3g}, its value at this share of that schedule.\n"
        f"This is not the same as {now} at once: recipe.yaml notes the change (lengthened). The best epoch is chosen "
        "among all, and held-out items are scored again at the end"
    )


def _length(recipe: Recipe) -> tuple[str, float] | None:
    """Return the unit of a recipe's length, and the length; None if it follows from the number of steps."""
    if recipe.time is not None:
        return "time", recipe.time
    return None if recipe.epochs is None else ("epochs", recipe.epochs)


def _new_length(stored: Recipe, requested: Recipe) -> dict[str, Any]:
    return {
        "epochs": requested.epochs if requested.epochs is not None else stored.epochs,
        "steps": requested.steps,
        "time": requested.time,
    }


def _reject_shorter(state: TrainState, unit: str, value: float, folder: Path) -> None:
    """Raise UserError if the run has trained for that long already."""
    done = state.epoch if unit == "epochs" else state.seconds
    if value <= done:
        amount = f"{state.epoch} epochs" if unit == "epochs" else f"{done:.0f} s"
        raise UserError(
            f"this run has trained for {amount} already",
            where=f"{folder}, --{unit}",
            fix=f"--{unit} counts from the beginning of the run: use a larger value",
        )
