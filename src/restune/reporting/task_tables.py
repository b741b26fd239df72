"""Evaluations and predictions of multi-label and regression models as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from restune.core.language import translated
from restune.evaluation.multilabel import MultiLabelEvaluation
from restune.evaluation.regression import RegressionEvaluation
from restune.evaluation.tasks import TaskEvaluation
from restune.inference.model import Prediction
from restune.reporting.layout import plain_table, prose
from restune.reporting.score_words import main_interval, main_score, more_scores


def task_tables(evaluation: TaskEvaluation) -> list[RenderableType]:
    """Return the main score's line, further scores, and a table of labels or numbers."""
    summary = evaluation.summary()
    low, high = main_interval(summary)
    lines = [f"{main_score(summary)} (95% interval {low} to {high}, n = {evaluation.n})"]
    if isinstance(evaluation, MultiLabelEvaluation):
        table = _label_table(evaluation)
        lines += more_scores(summary)
        if evaluation.thresholds_fitted:
            lines.append("thresholds were chosen on these items, so F1 is optimistic")
    else:
        table = _number_table(evaluation)
    return [Text("\n".join(map(translated, lines))), table]


def _label_table(evaluation: MultiLabelEvaluation) -> Table:
    headers = ("label", ">n", ">AP", "95% interval", ">AUROC", ">threshold", ">precision", ">recall", ">F1")
    table = plain_table(*headers)
    for name, one in evaluation.per_label.items():
        low, high = one.average_precision_interval
        interval = "-" if low is None or high is None else translated(f"{low:.1%} to {high:.1%}")
        table.add_row(
            Text(name),
            str(one.n),
            _percent(one.average_precision),
            interval,
            _percent(one.auroc),
            f"{one.threshold:.2f}",
            _percent(one.precision),
            _percent(one.recall),
            _percent(one.f1),
        )
    return table


def _number_table(evaluation: RegressionEvaluation) -> Table:
    table = plain_table("target", ">MAE", "95% interval", ">RMSE", ">R2", ">MAE of the mean", ">RMSE of the mean")
    for name, one in evaluation.per_target.items():
        low, high = one.intervals["mae"]
        interval = "-" if low is None or high is None else translated(f"{low:.4g} to {high:.4g}")
        table.add_row(
            Text(name),
            f"{one.mae:.4g}",
            interval,
            f"{one.rmse:.4g}",
            "-" if one.r2 is None else f"{one.r2:.3f}",
            f"{one.baseline['mae']:.4g}",
            f"{one.baseline['rmse']:.4g}",
        )
    return table


def task_predictions_table(predictions: Iterable[Prediction]) -> Table:
    """Return one row per input: its labels with their probabilities, or its numbers."""
    table: Table | None = None
    rows = []
    for prediction in predictions:
        if table is None:
            is_labels = prediction.labels is not None
            table = plain_table("input", "labels", "others") if is_labels else plain_table("input", "predicted")
        rows.append(_row(prediction, len(table.columns)))
    table = table or plain_table("input", "predicted")
    for row in rows:
        table.add_row(*row)
    return table


def _row(prediction: Prediction, width: int) -> list[RenderableType]:
    cells: list[RenderableType]
    if prediction.error is not None:
        cells = [Text(translated("unreadable"), "red"), prose(translated(prediction.error))]
        return [Text(prediction.input), *(cells if width > 2 else cells[1:])]
    if prediction.values is not None:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in prediction.values.items())
        return [Text(prediction.input), Text(numbers, "bold")]
    chosen = [f"{name} {value:.1%}" for name, value in prediction.top if name in (prediction.labels or ())]
    others = [f"{name} {value:.1%}" for name, value in prediction.top if name not in (prediction.labels or ())]
    return [Text(prediction.input), Text(", ".join(chosen) or "-", "bold"), Text(", ".join(others[:2]))]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
