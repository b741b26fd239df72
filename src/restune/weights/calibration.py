"""The calibration of a model as its bundle stores it: temperature, abstention curve and conformal thresholds.

All of it is fitted on validation items (`evaluation/calibration.py`, `abstention.py`, `conformal.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from restune.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RiskCurve:
    """How many validation items have at least a given probability, and how many of these are predicted correctly.

    Args:
        thresholds: probabilities of the predicted class, rising.
        answered: number of items with at least this probability.
        correct: number of these that are predicted correctly.
    """

    thresholds: tuple[float, ...]
    answered: tuple[int, ...]
    correct: tuple[int, ...]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RiskCurve:
        """Read the object in a bundle. Raises ValueError."""
        curve = cls(
            thresholds=_numbers(content["thresholds"]),
            answered=_counts(content["answered"]),
            correct=_counts(content["correct"]),
        )
        _require(len(curve.thresholds) == len(curve.answered) == len(curve.correct), "the curve's lists differ")
        _require(all(c <= a for a, c in zip(curve.answered, curve.correct, strict=True)), "more correct than answered")
        return curve


@dataclass(frozen=True, kw_only=True)
class ConformalThresholds:
    """Probabilities from which on a class belongs to the prediction set of a wanted coverage.

    Args:
        levels: coverages, rising.
        marginal: of each level, the threshold for all classes; 0: too few items, every class belongs to the set.
        class_conditional: of each class its thresholds by level; None with very many classes.
    """

    levels: tuple[float, ...]
    marginal: tuple[float, ...]
    class_conditional: tuple[tuple[float, ...], ...] | None

    def at(self, coverage: float, *, class_conditional: bool = False) -> float | tuple[float, ...]:
        """Return the threshold, or one per class, of the smallest stored level that is at least `coverage`.

        Raises UserError for a coverage outside 0 to the largest level, and where there are no thresholds per class.
        """
        check_coverage(coverage)
        place = next((place for place, level in enumerate(self.levels) if level >= coverage - 1e-9), None)
        if place is None:
            raise UserError(
                f"the model has thresholds up to a coverage of {self.levels[-1]:g}, not {coverage:g}",
                where="--coverage",
                fix=f"use {self.levels[-1]:g} or less",
            )
        if not class_conditional:
            return self.marginal[place]
        if self.class_conditional is None:
            raise UserError("this model has too many classes for thresholds per class", where="--class-conditional")
        return tuple(row[place] for row in self.class_conditional)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ConformalThresholds:
        """Read the object in a bundle. Raises ValueError."""
        levels, rows = _numbers(content["levels"]), content["class_conditional"]
        marginal = _numbers(content["marginal"])
        by_class = None if rows is None else tuple(map(_numbers, rows))
        _require(bool(levels) and len(marginal) == len(levels), "the thresholds' lists differ")
        _require(all(len(row) == len(levels) for row in by_class or ()), "the thresholds' lists differ")
        return cls(levels=levels, marginal=marginal, class_conditional=by_class)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How a model's logits become probabilities, and what these were worth on the validation items.

    Args:
        temperature: logits are divided by it.
        n: number of validation items.
        nll: their mean negative log-likelihood, before and after.
        ece: their expected calibration error, before and after.
        abstention: the risk-coverage curve.
        conformal: thresholds of prediction sets.
    """

    temperature: float
    n: int
    nll: tuple[float, float]
    ece: tuple[float, float]
    abstention: RiskCurve
    conformal: ConformalThresholds

    def to_dict(self) -> dict[str, Any]:
        """Return the object in a bundle."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], classes: int) -> Calibration:
        """Read the object in a bundle of a model with that many classes. Raises ValueError, KeyError, TypeError."""
        nll, ece = _numbers(content["nll"]), _numbers(content["ece"])
        (temperature,), (n,) = _numbers([content["temperature"]]), _counts([content["n"]])
        _require(temperature > 0, "the temperature is not positive")
        _require(len(nll) == len(ece) == 2, "two numbers are needed, before and after")
        conformal = ConformalThresholds.from_dict(content["conformal"])
        by_class = conformal.class_conditional
        _require(by_class is None or len(by_class) == classes, "thresholds of other classes")
        return cls(
            temperature=temperature,
            n=n,
            nll=(nll[0], nll[1]),
            ece=(ece[0], ece[1]),
            abstention=RiskCurve.from_dict(content["abstention"]),
            conformal=conformal,
        )


KEYS = frozenset(Calibration.__dataclass_fields__)
"""Of the object in a bundle."""


def check_coverage(coverage: float) -> None:
    """Raise UserError unless a wanted coverage lies between 0 and 1."""
    if not 0 < coverage < 1:
        raise UserError(f"a coverage of {coverage:g} cannot be wanted", where="--coverage", fix="use 0.9, for example")


def check_probability(value: float, option: str) -> None:
    """Raise UserError unless an option's value is a probability."""
    if not 0 <= value <= 1:
        raise UserError(f"{value:g} is not a probability", where=option, fix="use a number from 0 to 1")


def _numbers(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    _require(all(map(math.isfinite, numbers)), "a number is not finite")
    return numbers


def _counts(values: Any) -> tuple[int, ...]:
    _require(all(isinstance(value, int) and value >= 0 for value in values), "a count is not a number")
    return tuple(values)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"calibration: {what}")
