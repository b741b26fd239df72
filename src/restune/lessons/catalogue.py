"""The lessons by name, in teaching order; each experiment's module is imported on demand."""

from __future__ import annotations

from importlib import import_module

from restune.core.errors import UserError, did_you_mean
from restune.core.language import Text
from restune.lessons.lesson import Lesson

LESSONS = {
    "degradation": Text(
        "Deeper plain networks have a higher training error; residual ones do not.",
        "加深的普通网络训练误差更高，残差网络则不然。",
    ),
}
"""Each lesson's claim in a sentence, for the list."""


def find_lesson(name: str) -> Lesson:
    """Return a lesson by name. Raises UserError for an unknown one."""
    if name not in LESSONS:
        hint = did_you_mean(name, [*LESSONS, "exercise"]) or f"the lessons are {', '.join(LESSONS)}"
        raise UserError(f"unknown lesson {name!r}", where="restune lesson", fix=hint)
    lesson: Lesson = import_module(f"restune.lessons.experiments.{name.replace('-', '_')}").LESSON
    return lesson
