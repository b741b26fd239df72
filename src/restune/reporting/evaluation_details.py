"""Details of an evaluation for a terminal: novelty, slices, a comparison of two models, single items."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from restune.core.language import translated
from restune.evaluation.compare import Comparison
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.metrics import wilson_interval
from restune.evaluation.mistakes import ScoredItem
from restune.evaluation.novelty import Auroc, NoveltyResult
from restune.evaluation.slices import Slice
from restune.reporting.layout import plain_table
from restune.reporting.tables import share

_WORST = 5
"""Significantly worse slices that are listed."""
_LISTED = 5
"""Items of a comparison that are listed for each model."""


def detail_tables(evaluation: Evaluation, by: Sequence[str] = (), items: int = 0) -> list[RenderableType]:
    """Return what an evaluation knows besides its scores.

    Args:
        by: columns whose values are all listed.
        items: how many mistakes and uncertain items to list.
    """
    parts: list[RenderableType] = []
    if evaluation.novelty is not None:
        parts.append(_lines(novelty_lines(evaluation.novelty)))
    if evaluation.slices is not None:
        parts.extend(_slices(evaluation.slices, by))
    if evaluation.against is not None:
        parts.append(_lines(comparison_lines(evaluation.against)))
    if items:
        mistakes, uncertain = evaluation.mistakes(items), evaluation.uncertain(items)
        parts += [Text(translated("most confident mistakes")), _items(mistakes)] if mistakes else []
        parts += [Text(translated("least certain items")), _items(uncertain)]
    return parts


def _lines(text: str) -> Text:
    return Text("\n".join(map(translated, text.split("\n"))))


def novelty_lines(novelty: NoveltyResult) -> str:
    """Format the measured false-alarm rate beside the promised one and, for unknown data, detection and AUROC."""
    text = (
        f"novelty: {share(novelty.rate, novelty.interval, len(novelty.scores))} called unlike the training data; "
        f"promised {novelty.model.promised:.0%}"
    )
    unknown = novelty.unknown
    if unknown is None:
        return text
    detected = share(unknown.detected / unknown.n, wilson_interval(unknown.detected, unknown.n), unknown.n)
    difference, low, high = unknown.difference
    return (
        f"{text}\nunknown data {unknown.data}: {detected} called unlike the training data\n"
        f"AUROC of novelty {_auroc(unknown.novelty)}\nAUROC of maximum softmax {_auroc(unknown.max_softmax)}\n"
        f"AUROC difference {difference:+.4f} (95% interval {low:+.4f} to {high:+.4f}, paired)"
    )


def comparison_lines(comparison: Comparison) -> str:
    """Format the differences of two models, McNemar's p-value and the items that only one of them gets right."""
    lines = [f"against {comparison.model} on the same {comparison.n} items (this minus other, 95% paired bootstrap):"]
    accuracy, balanced, nll = comparison.accuracy, comparison.balanced_accuracy, comparison.nll
    for name, one in (("accuracy", accuracy), ("balanced accuracy", balanced)):
        low, high = one.interval
        lines.append(
            f"  {name} {one.this:.2%} and {one.other:.2%}: difference {one.difference:+.2%} ({low:+.2%} to {high:+.2%})"
        )
    low, high = nll.interval
    lines.append(
        f"  NLL {nll.this:.4f} and {nll.other:.4f}: difference {nll.difference:+.4f} ({low:+.4f} to {high:+.4f})"
    )
    this, other = len(comparison.only_this), len(comparison.only_other)
    lines.append(
        f"  only this model is right on {this} items, only the other on {other}: McNemar's test p = "
        f"{comparison.p_mid:.3g} (mid-p), {comparison.p_exact:.3g} (exact)"
    )
    for name, ids in (("this model", comparison.only_this), ("the other", comparison.only_other)):
        if ids:
            lines.append(f"  only {name} is right: {', '.join(ids[:_LISTED])}{', ...' if len(ids) > _LISTED else ''}")
    return "\n".join(lines)


def _slices(slices: Sequence[Slice], by: Sequence[str]) -> list[RenderableType]:
    """Return all values of the named columns, and the worst few of all other slices."""
    named = [one for one in slices if one.source == "column" and one.by in by]
    others = [one for one in slices if one.source != "column"]
    worse = [one for one in others if one.is_worse][:_WORST]
    parts: list[RenderableType] = [_slice_table(named)] if named else []
    if worse:
        parts += [Text(translated("items on which the model is significantly worse")), _slice_table(worse)]
    for one in worse:
        if one.items:
            parts.append(Text(translated(f"typical of cluster {one.value}: {', '.join(one.items)}")))
    return parts


def _slice_table(slices: Sequence[Slice]) -> Table:
    table = plain_table("by", "value", ">n", ">accuracy", "95% interval", ">elsewhere", ">p (corrected)")
    for one in slices:
        low, high = one.interval
        elsewhere = "-" if one.elsewhere is None else f"{one.elsewhere:.1%}"
        name = one.by if one.source == "column" else translated(one.by)
        table.add_row(
            Text(name), Text(one.value), str(one.n), f"{one.accuracy:.1%}", translated(f"{low:.1%} to {high:.1%}"),
            elsewhere, Text(f"{one.p:.2g}", "red" if one.is_worse else ""),
        )  # fmt: skip
    return table


def _items(items: Sequence[ScoredItem]) -> Table:
    table = plain_table("item", "label", ">probability", "predicted", ">probability", "runner-up")
    for item in items:
        table.add_row(
            Text(item.id), Text(item.label), f"{item.label_probability:.1%}",
            Text(item.predicted), f"{item.probability:.1%}", Text(item.runner_up),
        )  # fmt: skip
    return table


def _auroc(auroc: Auroc) -> str:
    low, high = auroc.interval
    return f"{auroc.value:.4f} (95% interval {low:.4f} to {high:.4f})"
