"""Predictions of multi-label and regression networks: labels above their thresholds, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from restune.data.targets import Outputs, TargetScale
from restune.inference.forward import mean_of_task_views


def task_answers(logits: Tensor, classes: Sequence[str], outputs: Outputs, topk: int) -> list[dict[str, Any]]:
    """Return the fields of a `Prediction` for each item, from outputs of views ``[N, V, C]``.

    Args:
        classes: names, in the order of the outputs.
        outputs: what these mean.
        topk: how many labels `top` lists.
    """
    rows = mean_of_task_views(logits, outputs.task)
    if outputs.task == "regression":
        scale = outputs.scale or TargetScale((0.0,) * len(classes), (1.0,) * len(classes))
        return [{"values": dict(zip(classes, row, strict=True))} for row in scale.values(rows.numpy()).tolist()]
    thresholds = outputs.threshold_row(len(classes)).astype(np.float32)
    return [_labels(row, classes, thresholds, topk) for row in rows.sigmoid().numpy()]


def _labels(probabilities: Any, classes: Sequence[str], thresholds: Any, topk: int) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable").tolist()
    ranked = [(classes[place], float(probabilities[place])) for place in order]
    return {
        "labels": tuple(classes[place] for place in order if probabilities[place] >= thresholds[place]),
        "probabilities": {name: float(value) for name, value in zip(classes, probabilities, strict=True)},
        "top": tuple(ranked[:topk]),
    }
