"""Checks of the exercise that trains a residual network on handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restune.core.language import Text
from restune.lessons.exercises.grading import Check, FaultError, named

WANTED_ACCURACY = 0.95
_HELD_OUT = 360


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images `[N, 1, 8, 8]` in 0..1 and labels for training, then 360 held-out ones (scikit-learn's digits)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32)[order, None] / 16
    labels = torch.tensor(data.target, dtype=torch.int64)[order]
    return images[_HELD_OUT:], labels[_HELD_OUT:], images[:_HELD_OUT], labels[:_HELD_OUT]


@dataclass
class Observed:
    """What the learner's loop did."""

    steps: int = 0
    cleared: int = 0
    saw_probabilities: bool = False


@contextmanager
def observed() -> Iterator[Observed]:
    """Count the optimisers' steps and clearings of gradients, and look at what the cross-entropy gets."""
    seen = Observed()
    step, clear, entropy = torch.optim.Optimizer.__init__, nn.Module.zero_grad, F.cross_entropy

    def watch(optimizer: Any, *args: Any, **options: Any) -> None:
        step(optimizer, *args, **options)
        own_step, own_clear = optimizer.step, optimizer.zero_grad

        def counted_step(*inner: Any, **more: Any) -> Any:
            seen.steps += 1
            return own_step(*inner, **more)

        def counted_clear(*inner: Any, **more: Any) -> Any:
            seen.cleared += 1
            return own_clear(*inner, **more)

        optimizer.step, optimizer.zero_grad = counted_step, counted_clear

    def module_clear(module: nn.Module, *args: Any, **options: Any) -> None:
        seen.cleared += 1
        clear(module, *args, **options)

    def watched_entropy(logits: Tensor, *args: Any, **options: Any) -> Tensor:
        with torch.no_grad():
            seen.saw_probabilities |= bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all())
        return entropy(logits, *args, **options)

    with (
        mock.patch.object(torch.optim.Optimizer, "__init__", watch),
        mock.patch.object(nn.Module, "zero_grad", module_clear),
        mock.patch.object(F, "cross_entropy", watched_entropy),
    ):
        yield seen


@cache
def _trained(train: Any) -> tuple[Any, Observed]:
    """Run the learner's training once; later checks look at the same model."""
    images, labels, _, _ = digits()
    torch.manual_seed(0)
    with observed() as seen:
        return train(images.clone(), labels.clone()), seen


def check_returns_model(module: ModuleType) -> None:
    """Check that training returns a module that gives ten logits per image."""
    model, seen = _trained(named(module, "train_model"))
    if not isinstance(model, nn.Module):
        raise FaultError("not-a-module", name="train_model", found=type(model).__name__)
    if not seen.steps:
        raise FaultError("no-steps")
    with torch.no_grad():
        found = list(model(digits()[2][:4]).shape)
    if found != [4, 10]:
        raise FaultError("wrong-shape", found=found, expected=[4, 10])


def check_loop(module: ModuleType) -> None:
    """Check that gradients are cleared before every step and that the loss gets logits."""
    _, seen = _trained(named(module, "train_model"))
    if seen.cleared < seen.steps / 2:
        raise FaultError("no-zero-grad", steps=seen.steps, cleared=seen.cleared)
    if seen.saw_probabilities:
        raise FaultError("softmax-before-loss")


def check_eval_mode(module: ModuleType) -> None:
    """Check that an image's logits do not depend on its neighbours in the batch."""
    model, _ = _trained(named(module, "train_model"))
    images = digits()[2][:32]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        together, half = model(images)[:16], model(images[:16])
    model.load_state_dict(before)
    if not torch.allclose(together, half, atol=1e-4):
        raise FaultError("forgotten-eval")


def check_accuracy(module: ModuleType) -> None:
    """Check the accuracy on held-out digits."""
    model, _ = _trained(named(module, "train_model"))
    _, _, images, labels = digits()
    with torch.no_grad():
        accuracy = float((model(images).argmax(1) == labels).float().mean())
    if accuracy < WANTED_ACCURACY:
        raise FaultError("too-inaccurate", accuracy=accuracy, wanted=WANTED_ACCURACY)


TRAIN_DIGITS = (
    Check(
        "returns-model",
        Text("training returns a model with ten logits", "训练返回输出 10 个 logits 的模型"),
        check_returns_model,
    ),
    Check(
        "loop", Text("gradients are cleared, the loss gets logits", "梯度已清零，损失函数得到的是 logits"), check_loop
    ),
    Check(
        "eval-mode",
        Text("an image's answer does not depend on its batch", "一张图像的结果与同批图像无关"),
        check_eval_mode,
    ),
    Check(
        "accuracy",
        Text("at least 95% of 360 held-out digits are right", "360 个留出数字的正确率至少 95%"),
        check_accuracy,
    ),
)
