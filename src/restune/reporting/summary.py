"""A run in a few sentences and its costs in a few rows, for the report and the model card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from restune.core.language import Text
from restune.evaluation.evaluation import Evaluation
from restune.reporting.confidence import confidence_sentences, unknowns_sentence
from restune.reporting.confusion import most_confused
from restune.reporting.cost import cost_of
from restune.reporting.run_files import RunFiles

Say = Callable[..., str]
_METRICS = {"map": "mAP", "mae": "MAE", "rmse": "RMSE", "r2": "R²"}


def conclusion(run: RunFiles, say: Say) -> list[str]:
    """Return what was trained on what, how good it is, against what, and its most frequent mistake."""
    split = run.held_out
    if split is None and run.evaluations:
        return [_task_conclusion(run, say)]
    if split is None:
        return [say("no_score")]
    score, result = run.scores[split], run.result
    low, high = score.interval
    sentences = [
        say(
            f"conclude_{result['verb']}",
            model=result["model"],
            data=run.data_name,
            train=f"{result['items'].get('train', 0):,}",
            noun=say(f"noun_{result['kind']}"),
            classes=len(result["classes"]),
            accuracy=f"{100 * score.accuracy:.2f}",
            n=f"{score.n:,}",
            split=say(f"split_name_{split}"),
            low=f"{100 * low:.2f}",
            high=f"{100 * high:.2f}",
        )
    ]
    return [*sentences, *_weights(run, say), *_baseline(score, say), *_worst_pair(score, say)]


def _task_conclusion(run: RunFiles, say: Say) -> str:
    """Return the main score of a multi-label or regression model, as its result names it."""
    split = next(name for name in ("test", "val") if name in run.evaluations)
    score, result = run.result[split], run.result
    metric = str(score.get("metric", ""))
    value, low, high = (_metric(metric, one) for one in (score.get(metric), *score.get("interval", (None, None))))
    return say(
        "conclude_task", model=result["model"], data=run.data_name, train=f"{result['items'].get('train', 0):,}",
        noun=say(f"noun_{result['kind']}"), metric=_METRICS.get(metric, metric), split=say(f"split_name_{split}"),
        value=value, low=low, high=high, n=f"{score['n']:,}",
    )  # fmt: skip


def _metric(name: str, value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}%" if name == "map" else f"{value:.4g}"


def _weights(run: RunFiles, say: Say) -> list[str]:
    """Name the weights that training started from: a published name, or the file's without its folders."""
    weights = run.settings.get("weights")
    return [say("initial_weights", weights=Path(weights).name)] if isinstance(weights, str) and weights else []


def _baseline(score: Evaluation, say: Say) -> list[str]:
    """Compare with always predicting the most frequent class of these items."""
    counts = {name: row.n for name, row in score.per_class.items()}
    name = max(counts, key=counts.__getitem__)
    share = counts[name] / score.n
    found = [say("baseline", name=name, share=f"{100 * share:.2f}")]
    return found if score.interval[0] > share else [*found, say("not_conclusive")]


def _worst_pair(score: Evaluation, say: Say) -> list[str]:
    pairs = most_confused(score)
    if not pairs:
        return [say("no_mistake")]
    worst = pairs[0]
    return [say("confused_most", n=f"{worst.n:,}", of=f"{worst.of:,}", true=worst.true, predicted=worst.predicted)]


def confidence_of(run: RunFiles) -> list[Text]:
    """Return how sure one may be, a sentence per measure that the run has."""
    scores = {} if run.held_out is None else run.scores[run.held_out].to_dict()
    unknowns = unknowns_sentence(run.result)
    return [*confidence_sentences(scores), *([] if unknowns is None else [unknowns])]


def cost_rows(run: RunFiles, say: Say) -> list[list[str]]:
    """Return what the model costs, a label and a value per row, without what is unknown."""
    cost = cost_of(run)
    shape = "×".join(map(str, cost.shape))
    rows = [
        (say("cost_parameters"), None if cost.parameters is None else f"{cost.parameters:,}"),
        (say("cost_flops", shape=shape), None if cost.flops is None else f"{cost.flops:,}"),
        (say("cost_file"), None if cost.bytes is None else say("mebibytes", n=f"{cost.bytes / 2**20:.2f}")),
        (say("cost_training"), None if cost.training_rate is None else f"{cost.training_rate:,.1f}"),
        (say("cost_prediction"), None if cost.prediction_rate is None else f"{cost.prediction_rate:,.1f}"),
        (say("cost_duration"), f"{run.result['seconds']:,.0f} s"),
    ]
    return [[label, value] for label, value in rows if value is not None]
