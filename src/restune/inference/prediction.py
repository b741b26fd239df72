"""What predict returns: answers to single inputs, and what they are asked for; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from restune.core.errors import UserError
from restune.weights.calibration import Calibration, check_coverage, check_probability


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A model's answer to one input.

    Args:
        input: its path, or ``input 3`` for one passed as content.
        label: the most probable class; None when the input could not be read, and when the model abstains.
        probability: of the most probable class, after calibration.
        top: the most probable classes with their probabilities, in falling order.
        error: why the input could not be read.
        labels: of a multi-label network, those whose probability reaches their threshold, the most probable first.
        probabilities: of a multi-label network, of every label.
        values: of a regression network, the numbers by name.
        novel: whether the input is unlike the training data; None where the model does not know.
        novelty: its novelty score, the distance to the nearest training embeddings (0 to 2).
        explanation: path of the picture of its explanation, if one was written; of a server, see docs/serve.md.
        abstained: whether the probability is below the threshold; None without a threshold.
        prediction_set: the classes among which the true one is, with the wanted coverage, the most probable first; None
            where no coverage was wanted.

    >>> (prediction,) = restune.predict(run_folder, photo)
    >>> prediction.label, prediction.top[0][0], prediction.error
    ('red', 'red', None)
    """

    input: str
    label: str | None = None
    probability: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    labels: tuple[str, ...] | None = None
    probabilities: Mapping[str, float] | None = None
    values: Mapping[str, float] | None = None
    explanation: str | Mapping[str, Any] | None = None
    abstained: bool | None = None
    prediction_set: tuple[str, ...] | None = None
    novel: bool | None = None
    novelty: float | None = None

    def __repr__(self) -> str:
        if self.labels is not None:
            known = self.probabilities or {}
            shown = ", ".join(f"{label!r} {known[label]:.1%}" for label in self.labels)
            return f"Prediction({self.input!r}, labels {shown or 'none'})"
        if self.values is not None:
            return f"Prediction({self.input!r}, {', '.join(f'{name} {v:.4g}' for name, v in self.values.items())})"
        if self.error is not None or self.probability is None:
            return f"Prediction({self.input!r}, error={self.error!r})"
        if self.abstained:
            return f"Prediction({self.input!r}, abstained: {self.top[0][0]!r} {self.probability:.1%})"
        others = ", ".join(f"{label!r} {probability:.1%}" for label, probability in self.top[1:3])
        return (
            f"Prediction({self.input!r}, {self.label!r} {self.probability:.1%}{f'; then {others}' if others else ''}"
            f"{'; unlike the training data' if self.novel else ''})"
        )

    def to_dict(self) -> dict[str, Any]:
        """``{"input", "label", "probability", "top"}``, or ``{"input", "error"}``.

        Of multi-label networks ``{"input", "labels", "probabilities", "top"}``, of regression ``{"input", "values"}``.
        With a threshold also ``"abstained"``, and where a coverage was wanted ``"prediction_set"``.
        """
        if self.error is not None:
            return {"input": self.input, "error": self.error}
        if self.values is not None:
            return {"input": self.input, "values": dict(self.values)}
        top = [[label, probability] for label, probability in self.top]
        if self.labels is not None:
            probabilities = dict(self.probabilities or {})
            return {"input": self.input, "labels": list(self.labels), "probabilities": probabilities, "top": top}
        return {
            "input": self.input,
            "label": self.label,
            "probability": self.probability,
            "top": top,
            **({} if self.novel is None else {"novel": self.novel, "novelty": self.novelty}),
            **({} if self.abstained is None else {"abstained": self.abstained}),
            **({} if self.prediction_set is None else {"prediction_set": list(self.prediction_set)}),
            **({} if self.explanation is None else {"explanation": self.explanation}),
        }


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """When to abstain, and which classes to list.

    Args:
        threshold: least probability of an answer; below it the model abstains. None: it always answers.
        coverage: wanted share of prediction sets that contain the true class; None: no sets.
        class_conditional: the coverage is wanted for the items of each class, not of all classes together.
    """

    threshold: float | None = None
    coverage: float | None = None
    class_conditional: bool = False

    def check(self) -> None:
        """Raise UserError for values that are not probabilities."""
        if self.threshold is not None:
            check_probability(self.threshold, "--threshold")
        if self.coverage is not None:
            check_coverage(self.coverage)
        if self.class_conditional and self.coverage is None:
            raise UserError("no coverage is named", where="--class-conditional", fix="add --coverage 0.9, for example")

    def set_thresholds(self, calibration: Calibration | None) -> float | tuple[float, ...] | None:
        """Return the thresholds of prediction sets; None where no coverage is wanted.

        Raises UserError for a model without calibration.
        """
        if self.coverage is None:
            return None
        if calibration is None:
            raise UserError(
                "this model is not calibrated: prediction sets need thresholds from validation items",
                where=f"--coverage {self.coverage:g}",
                fix="train it with validation items (--val)",
            )
        return calibration.conformal.at(self.coverage, class_conditional=self.class_conditional)


def reject_options_of_classes(task: str, options: dict[str, object]) -> None:
    """Raise UserError for options that only a model that predicts one class has."""
    for option, value in options.items():
        if value is not None:
            raise UserError(
                f"this is for models that predict one class; this is a {task} model",
                where=option,
                fix="leave it out",
            )
