"""Format the measures of an evaluation for a terminal: conclusions as sentences, then scores with their intervals."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from restune.core.language import translated
from restune.evaluation.abstention import needed_items
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.intervals import Interval
from restune.evaluation.metrics import ClassScores, wilson_interval
from restune.reporting.layout import plain_table as _table

_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "F1, mean of classes",
    "weighted_f1": "F1, weighted by items",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "auroc": "AUROC, mean of classes",
    "average_precision": "average precision, mean",
    "nll": "negative log-likelihood",
    "brier": "Brier score (0 to 2)",
    "ece": "calibration error (ECE)",
    "aurc": "risk-coverage area (AURC)",
}
_SHARES = ("balanced_accuracy", "ece")
_ALL_CLASSES = 50
"""Number of classes up to which each has a row; with more, the worst have."""
_WORST = 10
_PAIRS = 5


def conclusions(evaluation: Evaluation) -> Text:
    """Say in a sentence each what the probabilities are worth, when to abstain, and what prediction sets hold."""
    lines = [_probabilities(evaluation), *_abstention(evaluation), *_sets(evaluation)]
    return Text("\n".join(map(translated, lines)))


def score_table(evaluation: Evaluation) -> Table:
    """Return one row per score with its 95% interval; accuracy is in the headline."""
    measures, table = evaluation.measures, _table("score", ">value", "95% interval")
    for name, value in measures.values.items():
        if name == "accuracy" or (name.startswith("top") and name == "top2" and len(evaluation.classes) > 3):
            continue
        is_share = name.startswith("top") or name in _SHARES
        label = f"top-{name.removeprefix('top')} accuracy" if name.startswith("top") else _NAMES[name]
        interval = measures.intervals[name]
        shown = "-" if interval is None else translated(_range(interval, is_share))
        table.add_row(translated(label), "-" if value is None else _number(value, is_share), shown)
    return table


def class_tables(evaluation: Evaluation) -> list[RenderableType]:
    """Return a row per class; of more than 50 classes, of the ten with the lowest recall."""
    rows = list(enumerate(evaluation.per_class.items()))
    title: list[RenderableType] = []
    if len(rows) > _ALL_CLASSES:
        rows = sorted((row for row in rows if row[1][1].n), key=lambda row: row[1][1].recall or 0.0)[:_WORST]
        title = [Text(translated(f"the {len(rows)} classes with the lowest recall, of {len(evaluation.classes)}:"))]
    table = _table("class", ">n", ">precision", ">recall", "95% interval", ">F1", ">AUROC")
    auroc = evaluation.measures.ranking[0].value
    for place, (name, scores) in rows:
        area = "-" if auroc[place] != auroc[place] else f"{auroc[place]:.3f}"
        table.add_row(Text(name), str(scores.n), *_class_cells(scores), area)
    return [*title, table]


def confused_table(evaluation: Evaluation) -> Table | None:
    """Return the most frequent confusions; None without any."""
    pairs = evaluation.most_confused[:_PAIRS]
    if not pairs:
        return None
    table, totals = _table("true class", "predicted as", ">n", ">of the class"), evaluation.per_class
    for true, predicted, count in pairs:
        name = evaluation.classes[true]
        table.add_row(Text(name), Text(evaluation.classes[predicted]), str(count), f"{count / totals[name].n:.1%}")
    return table


def _probabilities(evaluation: Evaluation) -> str:
    measures = evaluation.measures
    interval = measures.intervals["ece"]
    assert interval is not None
    error = f"probabilities: calibration error {measures.reliability.ece:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
    if measures.calibration is None:
        return f"{error}; the model is not calibrated"
    before = measures.reliability_before.ece
    return f"{error}; before calibration {before:.1%} (temperature {measures.temperature:.2f})"


def _abstention(evaluation: Evaluation) -> Iterator[str]:
    measures = evaluation.measures
    if measures.calibration is None:
        return
    wanted, found = measures.target_precision, measures.selective()
    if found is None:
        needed, n = needed_items(wanted), measures.calibration.n
        if n < needed:
            yield f"no threshold for {wanted:.4g} precision: it takes {needed} validation items, there are {n}"
        else:
            yield f"no threshold for {wanted:.4g} precision: the most certain validation items hold too many errors"
        return
    here = found[1]
    answered = f"--threshold {here.threshold:g}: {here.answered / here.n:.1%} answered"
    low, high = wilson_interval(here.correct, here.answered)
    if here.answered:
        answered += f", {here.correct / here.answered:.1%} of these correct ({low:.1%} to {high:.1%})"
    yield answered


def _sets(evaluation: Evaluation) -> Iterator[str]:
    for class_conditional in (False, True):
        scores = evaluation.measures.sets(class_conditional=class_conditional)
        if scores is None:
            return
        low, high = scores.interval
        found = f"{scores.coverage:.1%} hold the true class ({low:.1%} to {high:.1%}), {scores.mean_size:.2f} classes"
        yield (
            f"{evaluation.coverage:.4g} sets by class: {found}"
            if class_conditional
            else (f"{evaluation.coverage:.4g} prediction sets: {found}")
        )
    few = evaluation.measures.unbounded_classes()
    if few:
        yield f"{few} classes have too few validation items for sets by class and are in each of them"


def _class_cells(scores: ClassScores) -> tuple[str, ...]:
    interval = translated(_range(scores.interval, True)) if scores.n else "-"
    return _percent(scores.precision), _percent(scores.recall), interval, _percent(scores.f1)


def _range(interval: Interval, is_share: bool) -> str:
    return f"{_number(interval[0], is_share)} to {_number(interval[1], is_share)}"


def _number(value: float, is_share: bool) -> str:
    return f"{value:.1%}" if is_share else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
