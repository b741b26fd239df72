"""The lessons by name, in teaching order; each experiment's module is imported on demand."""

from __future__ import annotations

from importlib import import_module

from restune.core.errors import UserError, did_you_mean
from restune.core.language import Text
from restune.lessons.lesson import Lesson

LESSONS = {
    "gradient-flow": Text(
        "With batch norm the gradients of deep plain networks do not vanish.",
        "有了批归一化，深的普通网络梯度并不消失。",
    ),
    "degradation": Text(
        "Deeper plain networks have a higher training error; residual ones do not.",
        "加深的普通网络训练误差更高，残差网络则不然。",
    ),
    "lesion": Text(
        "A residual network loses little without one of its blocks; a plain one loses almost all.",
        "残差网络去掉一个块损失很小，普通网络则几乎全部丢失。",
    ),
    "landscape": Text(
        "The loss around a plain network is steep and rough; around a residual one it is a wide basin.",
        "普通网络周围的损失陡峭粗糙，残差网络周围则是宽阔的盆地。",
    ),
    "freeze": Text(
        "Frozen batch norms whose statistics move change the features; kept ones do not.",
        "冻结的批归一化若统计量仍在变，特征就会变；保持不变则不会。",
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
