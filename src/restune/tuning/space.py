"""The space of a study: recipe settings with their choices or ranges, from YAML or by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError
from restune.training.recipe import Recipe, read_settings

if TYPE_CHECKING:
    import optuna

_FORM = "write it as {low: 0.01, high: 1, log: true} or as a list of values"
_NOT_SEARCHED = ("seed", "val", "test", "min_class_items", "monitor", "smoke", "device", "threads", "workers", "time")
"""Settings that trials must share to be comparable."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers between two ends, both included.

    Args:
        low, high: whole numbers give whole numbers.
        log: draw the logarithm evenly.
    """

    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """A few values: text, numbers, true, false or null."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return self.values


Space = Mapping[str, Range | Choice]
"""Settings of the recipe by dotted key."""


def read_space(path: Path, base: Recipe) -> Space:
    """Read a space from YAML; every key and value is tried in the recipe. Raises UserError, naming key and file."""
    content = read_settings(path)
    if not isinstance(content, dict) or not content:
        raise UserError("a space maps settings of the recipe to choices or ranges", where=str(path), fix=_FORM)
    space = {str(key): _dimension(str(key), value, path) for key, value in content.items()}
    check_space(space, base, str(path))
    return space


def check_space(space: Space, base: Recipe, where: str) -> None:
    """Raise UserError for a key or a value that the recipe does not have."""
    for key, dimension in space.items():
        if key.partition(".")[0] in _NOT_SEARCHED:
            raise UserError(f"{key} is the same in all trials", where=where, fix="leave it out of the space")
        for value in dimension.ends:
            try:
                base.changed({key: value})
            except UserError as error:
                raise UserError(error.what, where=where, fix=error.fix) from None


def default_space(base: Recipe, verb: str, weights: Sequence[str] = (), side: int | None = None) -> Space:
    """Return the space of a verb.

    Args:
        base: the recipe, whose learning rate and weight decay the ranges surround.
        verb: ``train`` or ``finetune``.
        weights: at hand for fine-tuning where none are named; compared if there are several.
        side: of the network's input, pixels; None where it is not an image.
    """
    space: dict[str, Range | Choice] = {}
    if verb == "finetune" and len(weights) > 1:
        space["weights"] = Choice(tuple(weights))
    if base.fits_head:
        if side is not None:
            space["image_size"] = Choice(tuple(dict.fromkeys((side, round(1.5 * side), 2 * side))))
        return space | {
            "label_smoothing": Range(low=0.0, high=0.2),
            "class_weights": Choice(("none", "balanced")),
            "views": Choice((1, 2, 4)),
        }
    lr, decay = base.optimizer.lr, base.optimizer.weight_decay or 1e-4
    space |= {
        "optimizer.lr": Range(low=lr / 10, high=min(100.0, 5 * lr), log=True),
        "optimizer.weight_decay": Range(low=decay / 10, high=min(10.0, 20 * decay), log=True),
        "label_smoothing": Range(low=0.0, high=0.2),
        "augment.policy": Choice(("none", "trivial")),
    }
    if verb == "finetune":
        space["freeze"] = Choice(("none", 1, 2))
    return space


def suggested(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Draw one value per setting."""
    return {key: _suggested(trial, key, dimension) for key, dimension in space.items()}


def _suggested(trial: optuna.Trial, key: str, dimension: Range | Choice) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(key, dimension.values)
    if isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return trial.suggest_int(key, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log)


def _dimension(key: str, value: Any, path: Path) -> Range | Choice:
    if isinstance(value, list) and value and all(_is_plain(one) for one in value):
        return Choice(tuple(value))
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        low, high, log = value["low"], value["high"], value.get("log", False)
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (low, high))
        if numbers and isinstance(log, bool) and low < high and (low > 0 or not log):
            return Range(low=low, high=high, log=log)
        reason = "a logarithmic range begins above 0" if numbers and log and low <= 0 else "low must be below high"
        raise UserError(f"{key}: {reason}", where=str(path), fix=_FORM)
    raise UserError(f"{key}: this is neither a range nor a list of values", where=str(path), fix=_FORM)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
