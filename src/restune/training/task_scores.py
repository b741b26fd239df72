"""Validation scores of multi-label data and regression, from the outputs for all validation items."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.data.dataset import Dataset
from restune.data.targets import TargetScale
from restune.evaluation.label_metrics import f1_of, mean_average_precision, regression_scores
from restune.training.objective import task_loss

TASK_SCORES = {
    "multi-label": ("val_loss", "val_map", "val_macro_f1"),
    "regression": ("val_loss", "val_mae", "val_r2"),
}
"""The names of the scores by task."""


def learnt_values(dataset: Dataset, scale: TargetScale | None) -> NDArray[np.float32] | None:
    """Return a data set's target values as the loss takes them, ``[rows, C]``; None for class indices.

    Args:
        scale: of the training targets of regression.
    """
    if dataset.target_values is None or scale is None:
        return dataset.target_values
    return scale.standardized(dataset.target_values)


def task_scores(
    task: str, loss: str, outputs: Tensor, targets: Tensor, scale: TargetScale | None = None
) -> dict[str, float]:
    """Compute `TASK_SCORES`; those that are not defined, such as R2 of a constant target, are left out.

    Args:
        loss: the recipe's.
        outputs, targets: of all items ``[N, C]``; targets as the loss takes them.
        scale: of the training targets of regression.
    """
    scores = {"val_loss": float(task_loss(outputs.float(), targets, loss))}
    if task == "multi-label":
        is_true, predicted = targets.numpy() > 0.5, (outputs > 0).numpy()
        hits, actual, guessed = (one.sum(axis=0).astype(float) for one in (predicted & is_true, is_true, predicted))
        used = actual + guessed > 0
        scores["val_map"] = mean_average_precision(outputs.numpy(), is_true)
        scores["val_macro_f1"] = float(f1_of(hits, actual, guessed)[used].mean()) if used.any() else math.nan
    else:
        assert scale is not None
        numbers = [scale.values(one.numpy()).astype(np.float64) for one in (targets, outputs)]
        measured = regression_scores(*numbers)
        scores["val_mae"], scores["val_r2"] = float(measured["mae"].mean()), float(measured["r2"].mean())
    return {name: value for name, value in scores.items() if name == "val_loss" or math.isfinite(value)}


class Collected:
    """Outputs and targets of all validation items, each at its place, summed over processes.

    Args:
        total: number of validation items.
        outputs: C, numbers per item.
    """

    def __init__(self, total: int, outputs: int) -> None:
        self.rows = torch.zeros(2, total, outputs, dtype=torch.float64)

    def put(self, start: int, outputs: Tensor, targets: Tensor) -> None:
        """Place the rows of consecutive items ``[N, C]`` from `start` on."""
        self.rows[0, start : start + len(outputs)] = outputs.double().cpu()
        self.rows[1, start : start + len(outputs)] = targets.double().cpu()

    def halves(self, flat: list[float]) -> tuple[Tensor, Tensor]:
        """Return outputs and targets of `rows` that were flattened and summed over processes."""
        outputs, targets = torch.tensor(flat, dtype=torch.float64).reshape(self.rows.shape).float()
        return outputs, targets
