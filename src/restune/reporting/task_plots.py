"""Plots of regression models for the report: predicted against true values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from restune.evaluation.regression import RegressionEvaluation
from restune.reporting.phrases import phrases
from restune.reporting.plots import scatter_svg

_MOST_POINTS, _MOST_PANELS = 2000, 6


def task_plots(scores: Mapping[str, Any], language: str) -> dict[str, list[tuple[str, str]]]:
    """Return the plots of each split of a regression model: the number's name, and an SVG element."""
    return {
        split: [(name, _scatter(score, place, language)) for place, name in enumerate(score.classes[:_MOST_PANELS])]
        for split, score in scores.items()
        if isinstance(score, RegressionEvaluation)
    }


def _scatter(score: RegressionEvaluation, place: int, language: str) -> str:
    say, name = phrases(language), score.classes[place]
    chosen = np.unique(np.linspace(0, score.n - 1, min(score.n, _MOST_POINTS)).astype(int))
    true, predicted = score.targets[:, place], score.values[:, place]
    spread = true.std() > 0 and predicted.std() > 0
    correlation = f"{np.corrcoef(true, predicted)[0, 1]:.2f}" if spread else "–"
    return scatter_svg(
        true[chosen].tolist(),
        predicted[chosen].tolist(),
        title=say("task_plot_title", name=name),
        x=say("task_plot_true"),
        y=say("task_plot_predicted"),
        description=say("task_plot_described", name=name, n=score.n, r=correlation),
    )
