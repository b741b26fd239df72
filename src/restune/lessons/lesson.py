"""A lesson: a claim, an experiment on the reader's machine, and the evidence that it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restune.core.language import Text
from restune.reporting.plots import Panel


@dataclass(frozen=True)
class Settings:
    """What a reader may choose.

    Args:
        data: as for `restune.train`; by default scikit-learn's digits.
        seeds: one training per network and seed.
        effort: factor on the number of epochs (or of points, where a lesson does not train), from ``--time``.
        device: ``cpu``, ``cuda``, or None for the best there is.
        model: a trained model of the reader's own, for the lessons that take one.
    """

    data: Any = "digits"
    seeds: tuple[int, ...] = (0, 1, 2)
    effort: float = 1.0
    device: str | None = None
    model: Path | None = None

    def epochs(self, count: int) -> int:
        """Return an experiment's number of epochs."""
        return max(1, round(count * self.effort))


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    title: Text
    header: Sequence[Text]
    rows: Sequence[Sequence[str | Text]]


@dataclass(frozen=True)
class Evidence:
    """What an experiment found.

    Args:
        conclusion: what the measurements say about the claim, with their figures.
        holds: whether they support it.
        facts: the figures, for ``--json``.
        drawing: an SVG element of the network, where the lesson marks its parts.
    """

    conclusion: Text
    holds: bool
    facts: dict[str, Any]
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    drawing: str | None = None


@dataclass(frozen=True)
class Lesson:
    """One lesson.

    Args:
        question: its title.
        claim: what it claims, in a sentence or two.
        method: how the experiment goes.
        popular: where the popular story is wrong.
        next_steps: what to try next.
        seconds: the usual duration on two cores.
        limit: the most items that it uses.
        takes_model: whether ``--model`` is used.
    """

    name: str
    question: Text
    claim: Text
    method: Text
    popular: Text
    next_steps: Text
    experiment: Callable[[Settings], Evidence]
    seconds: int
    takes_model: bool = False
    limit: int = 4000
    sources: Sequence[str] = field(default_factory=tuple)
