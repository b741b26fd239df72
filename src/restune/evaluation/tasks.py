"""Evaluations of every task: collected from outputs, and loaded from files."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from restune.data.dataset import Dataset
from restune.data.targets import Outputs
from restune.evaluation.evaluation import Evaluation, EvaluationBuilder
from restune.evaluation.multilabel import MultiLabelEvaluation
from restune.evaluation.regression import RegressionEvaluation
from restune.evaluation.task_evaluation import TaskRows
from restune.weights.calibration import Calibration

AnyEvaluation = Evaluation | MultiLabelEvaluation | RegressionEvaluation
"""The evaluation of a model on a data set. All have `n`, `classes`, `ids`, `targets`, `logits`, `skipped`, `model`,
`data`, `fingerprint`, `seconds`, `to_dict` and `save`."""
TaskEvaluation = MultiLabelEvaluation | RegressionEvaluation


class TaskBuilder:
    """Collects an evaluation of a multi-label or regression model batch by batch, in bounded memory.

    Args:
        classes: names, in the order of the outputs.
        outputs: what these mean.
        dataset: the items, with their target values.
    """

    def __init__(self, classes: tuple[str, ...], outputs: Outputs, dataset: Dataset) -> None:
        self.classes, self.outputs = classes, outputs
        values = dataset.target_values
        self._rows = TaskRows(np.zeros((0, len(classes)), np.float32) if values is None else values)

    def add(self, ids: list[str], targets: list[int], logits: Tensor, _embeddings: Tensor | None = None) -> None:
        """Add items: their ids, rows of the target values, and outputs ``[N, C]``; embeddings are not kept."""
        self._rows.add(ids, targets, logits)

    def evaluation(self, **about: Any) -> TaskEvaluation:
        """Return the evaluation so far; `about` sets the fields on model, data and time."""
        kind = MultiLabelEvaluation if self.outputs.task == "multi-label" else RegressionEvaluation
        return kind.of(self.classes, self._rows.fields(), self.outputs, **about)


def builder_for(
    classes: tuple[str, ...], outputs: Outputs, dataset: Dataset, calibration: Calibration | None = None
) -> EvaluationBuilder | TaskBuilder:
    """Return what collects the evaluation of a model on a data set of the same task."""
    assert outputs.task == dataset.task, "checked by match_classes"
    if outputs.task == "single-label":
        return EvaluationBuilder(classes, calibration)
    return TaskBuilder(classes, outputs, dataset)
