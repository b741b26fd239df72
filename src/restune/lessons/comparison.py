"""Compare networks that were trained alike with several seeds: mean losses and scores, differences, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from restune.core.language import Text
from restune.lessons.laboratory import Trained
from restune.lessons.statistics import Mean, band, mean, mean_loss, mean_share
from restune.lessons.words import DEPTH, EPOCH, TRAIN_LOSS
from restune.reporting.plots import Lines

Runs = Mapping[str, Sequence[Trained]]
"""By the label of the plan: the trainings with each seed, in the order of the seeds."""


def by_plan(trained: Sequence[Trained]) -> dict[str, list[Trained]]:
    """Group trainings by the label of their plan."""
    found: dict[str, list[Trained]] = {}
    for run in trained:
        found.setdefault(run.plan.label, []).append(run)
    return found


def losses(found: Runs) -> dict[str, Mean]:
    """Return each plan's mean training loss in the last epoch."""
    return {label: mean_loss([run.train_loss for run in runs]) for label, runs in found.items()}


def scores(found: Runs) -> dict[str, Mean]:
    """Return each plan's mean validation accuracy after the last epoch."""
    return {label: mean_share([run.accuracy for run in runs]) for label, runs in found.items()}


def excess(found: Runs, label: str, reference: str) -> Mean:
    """Return by how much a plan's training loss exceeds that of another, seed by seed."""
    pairs = zip(found[label], found[reference], strict=True)
    return mean([one.train_loss - other.train_loss for one, other in pairs])


def loss_curves(
    found: Runs, depths: Sequence[int], labels: Mapping[str, Text], *, dashed: str, title: Text
) -> Lines:  # fmt: skip
    """Draw the training loss by epoch, with a slider over the depth.

    Args:
        labels: the lines, by the first part of the plans' labels: ``plain`` of ``plain-56``.
        dashed: which of them is dashed.
    """
    series = []
    for depth in depths:
        for key, label in labels.items():
            runs = found[f"{key}-{depth}"]
            epochs = [record.epoch for record in runs[0].records]
            means = [mean_loss([run.records[place].train_loss for run in runs]) for place in range(len(epochs))]
            series.append(band(label, epochs, means, is_dashed=key == dashed, at=depth))
    return Lines(title, EPOCH, TRAIN_LOSS, series, slider=DEPTH)
