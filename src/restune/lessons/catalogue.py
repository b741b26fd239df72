"""The lessons by name, in teaching order; each experiment's module is imported on demand."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from restune.core.errors import UserError, did_you_mean
from restune.core.language import Text

if TYPE_CHECKING:
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
        "The loss rises more steeply around a deep plain network than around a residual one.",
        "深的普通网络周围，损失上升得比残差网络周围更陡。",
    ),
    "freeze": Text(
        "Frozen batch norms whose statistics move change the features; kept ones do not.",
        "冻结的批归一化若统计量仍在变，特征就会变；保持不变则不会。",
    ),
    "shortcut": Text(
        "A shortcut must pass its input on unchanged; halving it makes a deep network train much worse.",
        "捷径应当把输入原样传下去；减半会让深的网络难训练得多。",
    ),
    "efficiency": Text(
        "Shortcuts save no parameters; the bottleneck and global average pooling do.",
        "捷径不节省参数，节省来自瓶颈结构和全局平均池化。",
    ),
    "transfer": Text(
        "With few items a frozen pretrained network beats one trained from scratch; its lead shrinks with more.",
        "样本少时冻结的预训练网络胜过从头训练，样本越多领先越小。",
    ),
}
"""Each lesson's claim in a sentence, for the list."""


def check_name(name: str) -> None:
    """Raise UserError for a name that is not a lesson's."""
    if name not in LESSONS:
        hint = did_you_mean(name, [*LESSONS, "exercise"]) or f"the lessons are {', '.join(LESSONS)}"
        raise UserError(f"unknown lesson {name!r}", where="restune lesson", fix=hint)


def find_lesson(name: str) -> Lesson:
    """Return a lesson by name. Raises UserError for an unknown one."""
    check_name(name)
    from restune.lessons.lesson import Lesson

    lesson = import_module(f"restune.lessons.experiments.{name.replace('-', '_')}").LESSON
    assert isinstance(lesson, Lesson)
    return lesson
