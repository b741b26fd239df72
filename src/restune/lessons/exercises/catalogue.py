"""The exercises: names, tasks, skeletons, checks."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, resources

from restune.core.errors import UserError, did_you_mean
from restune.core.language import Text
from restune.lessons.exercises.grading import Check


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Args:
        task: what to write, in a sentence.
        checks: module and name of its checks; loaded on demand, since they import torch.
        seconds: time limit of a grading.
    """

    name: str
    task: Text
    checks: tuple[str, str]
    seconds: int = 60

    def skeleton(self, language: str) -> str:
        """Return the commented file to complete."""
        folder = resources.files("restune.lessons.exercises") / "skeletons" / language
        return (folder / f"{self.name}.py.txt").read_text(encoding="utf-8")

    def load_checks(self) -> tuple[Check, ...]:
        """Return the checks."""
        module, name = self.checks
        checks: tuple[Check, ...] = getattr(import_module(f"restune.lessons.exercises.{module}"), name)
        return checks


EXERCISES = {
    exercise.name: exercise
    for exercise in (
        Exercise(
            "residual-block",
            Text("Write a residual block for inputs of unchanging shape.", "写一个输入输出形状相同的残差块。"),
            ("blocks", "RESIDUAL_BLOCK"),
        ),
        Exercise(
            "projection",
            Text(
                "Let the block take a stride and another number of channels: project the shortcut.",
                "让残差块支持步幅和不同的通道数：对捷径做投影。",
            ),
            ("blocks", "PROJECTION"),
        ),
        Exercise(
            "bottleneck",
            Text("Write the bottleneck block with `expansion`.", "写出带 `expansion` 的瓶颈块。"),
            ("blocks", "BOTTLENECK"),
        ),
        Exercise(
            "resnet",
            Text(
                "Write the whole ResNet for any `layers` and either block.",
                "写出完整的 ResNet，支持任意 `layers` 和两种块。",
            ),
            ("network", "RESNET"),
        ),
        Exercise(
            "train-digits",
            Text(
                "Train a residual network on handwritten digits to 95% on held-out ones.",
                "在手写数字上训练一个残差网络，在留出数据上达到 95%。",
            ),
            ("training", "TRAIN_DIGITS"),
            seconds=180,
        ),
        Exercise(
            "finetune",
            Text(
                "Load weights, replace the head, freeze the rest, batch-norm statistics included.",
                "加载权重，替换分类头，冻结其余部分，包括批归一化的统计量。",
            ),
            ("finetuning", "FINETUNE"),
        ),
        Exercise(
            "debug-listing",
            Text(
                "Find and mend all faults of a listing that does not run.", "找出并改正一份跑不起来的代码中的所有错误。"
            ),
            ("network", "DEBUG_LISTING"),
        ),
    )
}


def find_exercise(name: str) -> Exercise:
    """Return an exercise by name. Raises UserError for an unknown one."""
    if name not in EXERCISES:
        hint = did_you_mean(name, EXERCISES) or f"the exercises are {', '.join(EXERCISES)}"
        raise UserError(f"unknown exercise {name!r}", where="restune lesson exercise", fix=hint)
    return EXERCISES[name]
