"""Checks of the exercise that loads weights, replaces the head and freezes the rest, batch-norm statistics included."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from restune.core.language import Text
from restune.lessons.exercises.grading import Check, FaultError, named
from restune.lessons.exercises.network import reference_network

NUM_CLASSES = 5


@dataclass(frozen=True)
class Prepared:
    """The learner's model, the state dict of the file, and how the file was read."""

    model: Any
    weights: dict[str, Tensor]
    is_unsafe: bool


@cache
def _prepared(prepare: Any) -> Prepared:
    """Write a ResNet-18's weights for 1,000 classes and call the learner's `prepare` on the file, once."""
    weights = reference_network("BasicBlock", (2, 2, 2, 2), 1000).state_dict()
    load, unsafe = torch.load, []

    def watched(*args: Any, **options: Any) -> Any:
        unsafe.append(options.get("weights_only") is False)
        return load(*args, **options)

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(torch, "load", watched):
        torch.save(weights, Path(folder) / "weights.pth")
        torch.manual_seed(0)
        model = prepare(str(Path(folder) / "weights.pth"), NUM_CLASSES)
    return Prepared(model, weights, any(unsafe))


def _model(module: ModuleType) -> nn.Module:
    model = _prepared(named(module, "prepare")).model
    if not isinstance(model, nn.Module):
        raise FaultError("not-a-module", name="prepare", found=type(model).__name__)
    return model


def _head_names(model: nn.Module) -> set[str]:
    """Return the names of the last linear layer's parameters."""
    last = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    return {f"{last}.weight", f"{last}.bias"}


def check_weights(module: ModuleType) -> None:
    """Check that the body has the file's weights and that the file was read without running code."""
    prepared = _prepared(named(module, "prepare"))
    _model(module)
    for name, value in prepared.weights.items():
        found = prepared.model.state_dict().get(name)
        if not name.startswith("fc.") and (found is None or not torch.equal(found, value)):
            raise FaultError("weights-not-loaded", name=name)
    if prepared.is_unsafe:
        raise FaultError("unsafe-load")


def check_head(module: ModuleType) -> None:
    """Check that the head fits the new classes."""
    with torch.no_grad():
        found = _model(module).eval()(_images()).shape[1]
    if found != NUM_CLASSES:
        raise FaultError("head-not-replaced", found=found, expected=NUM_CLASSES)


def check_frozen(module: ModuleType) -> None:
    """Check that the head alone requires gradients."""
    model = _model(module)
    head = _head_names(model)
    for name, parameter in model.named_parameters():
        if name in head and not parameter.requires_grad:
            raise FaultError("head-frozen")
        if name not in head and parameter.requires_grad:
            raise FaultError("body-not-frozen", name=name)


def check_training(module: ModuleType) -> None:
    """Train for an epoch by the learner's loop: the head moves, no parameter and no statistic of the body does."""
    model, train = _model(module), named(module, "train_epoch")
    head = _head_names(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, _images(), torch.arange(8) % NUM_CLASSES)
    after = model.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    for name in moved:
        if "running_" in name or "num_batches" in name:
            raise FaultError("norms-drift", name=name)
        if name not in head:
            raise FaultError("body-moves", name=name)
    if not head & set(moved):
        raise FaultError("head-does-not-move")


def _images() -> Tensor:
    return torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(2))


_LINEAR = ((r"mat1 and mat2 shapes cannot be multiplied", "head-size"),)

FINETUNE = (
    Check(
        "weights",
        Text("the body has the file's weights", "主体的权重来自文件"),
        check_weights,
        diagnoses=((r"size mismatch for fc", "head-before-weights"),),
    ),
    Check("head", Text("the head fits five classes", "分类头对应 5 个类别"), check_head, diagnoses=_LINEAR),
    Check("frozen", Text("the head alone requires gradients", "只有分类头需要梯度"), check_frozen),
    Check("training", Text("one epoch moves the head and nothing else", "训练一轮只改变分类头"), check_training),
)
