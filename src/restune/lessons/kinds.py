"""The two kinds of network that the lessons set side by side: residual ones and their plain twins."""

from __future__ import annotations

from restune.core.language import Text
from restune.lessons.laboratory import Plan

KINDS = (("residual", Text("residual", "残差网络")), ("plain", Text("plain", "普通网络")))


def named(label: str) -> Text:
    """Return how the label of a plan reads.

    >>> named("plain-56").en
    'plain, 56 layers'
    """
    kind, _, depth = label.partition("-")
    text = dict(KINDS)[kind]
    return Text(f"{text.en}, {depth} layers", f"{text.zh}，{depth} 层")


def plan(kind: str, depth: int, width: int = 8) -> Plan:
    """Return the CIFAR network of a depth, or its plain twin: the same layers and parameters without shortcuts."""
    return Plan(f"{kind}-{depth}", f"resnet{depth}", (("width", width), ("residual", kind == "residual")))
