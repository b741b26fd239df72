"""The main score of a split's part of result.json, for any task, as text. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {"accuracy": "accuracy", "map": "mAP", "mae": "MAE", "rmse": "RMSE", "r2": "R2"}
_SHARES = frozenset({"accuracy", "map"})


def metric_of(score: Mapping[str, Any]) -> str:
    """Return the key of the main score: accuracy, or what the task names."""
    return str(score.get("metric", "accuracy"))


def metric_name(metric: str) -> str:
    """Return the usual name of a metric."""
    return _NAMES.get(metric, metric)


def metric_value(metric: str, value: float | None, digits: int = 2) -> str:
    """Format a metric's value: shares in percent, others with four significant digits.

    >>> metric_value("map", 0.8125), metric_value("mae", 3.14159)
    ('81.25%', '3.142')
    """
    if value is None:
        return "-"
    return f"{value:.{digits}%}" if metric in _SHARES else f"{value:.4g}"


def main_score(score: Mapping[str, Any]) -> str:
    """Format the main score: ``accuracy 81.00%``, ``mAP 81.25%`` or ``MAE 3.142``."""
    metric = metric_of(score)
    return f"{metric_name(metric)} {metric_value(metric, score.get(metric))}"


def main_interval(score: Mapping[str, Any], digits: int = 2) -> tuple[str, str]:
    """Format the ends of the main score's 95% interval."""
    metric = metric_of(score)
    low, high = score["interval"]
    return metric_value(metric, low, digits), metric_value(metric, high, digits)


def more_scores(score: Mapping[str, Any]) -> list[str]:
    """Format the further scores of multi-label data or regression, one line each; none of single-label data."""
    task = score.get("task", "single-label")
    if task == "multi-label":
        macro, micro = _decimals(score["macro_f1"]), _decimals(score["micro_f1"])
        exact, wrong = score["subset_accuracy"], score["hamming_loss"]
        return [f"macro F1 {macro}, micro F1 {micro}; all labels right {exact:.2%}, Hamming loss {wrong:.4f}"]
    return target_lines(score["per_target"]) if task == "regression" else []


def target_lines(targets: Mapping[str, Any]) -> list[str]:
    """Format one line per number that regression predicts, with the errors of predicting the training mean."""
    return [
        f"{name}: MAE {one['mae']:.4g}, RMSE {one['rmse']:.4g}, R2 {_decimals(one['r2'])} "
        f"(predicting the mean: MAE {one['baseline']['mae']:.4g}, RMSE {one['baseline']['rmse']:.4g})"
        for name, one in targets.items()
    ]


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
