"""The curves of a run as panels: losses, validation accuracy, learning rate; of a fitted head its strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from restune.core.language import Text, speaking, translated
from restune.data.kinds import kind_of
from restune.reporting.phrases import both
from restune.reporting.plots import Lines, Series

Records = Sequence[Mapping[str, Any]]
_SCORES = {"val_accuracy": 100, "val_map": 100, "val_mae": 1}
"""The main validation score of each task, and the factor that it is drawn with."""


def training_panels(records: Records, kind: str) -> list[Lines]:
    """Return one panel per quantity that was measured: losses, validation scores, learning rate.

    Args:
        records: the lines of metrics.jsonl.
        kind: of the data.
    """
    losses = [
        _by_epoch(both(label), name, records)
        for name, label in (("train_loss", "curve_training"), ("val_loss", "curve_validation"))
        if any(name in record for record in records)
    ]
    panels = [Lines(both("loss"), both("epoch"), both("loss"), losses)]
    for name, factor in _SCORES.items():
        if any(name in record for record in records):
            series = _by_epoch(both(name), name, records, factor)
            title = _accuracy_title(kind) if name == "val_accuracy" else both(name)
            panels.append(Lines(title, both("epoch"), Text("%", "%") if factor == 100 else both(name), [series]))
    if any("lr" in record for record in records):
        rates = _by_epoch(both("lr_last_step"), "lr", records)
        panels.append(Lines(both("lr_last_step"), both("epoch"), both("learning_rate"), [rates]))
    return panels


def strength_panel(head: Mapping[str, Any]) -> Lines:
    """Return the held-out loss of a fitted head by L2 strength, the chosen one marked."""
    strengths, losses = zip(*head["tried"], strict=True)
    chosen = losses[strengths.index(head["l2"])] if head["l2"] in strengths else min(losses)
    tried = Series(both("tried"), list(strengths), list(losses))
    title = Text(*(both("loss_in", how=_in(language, head["chosen_by"])).of(language) for language in ("en", "zh")))
    picked = Series(both("chosen"), [head["l2"]], [chosen], is_dashed=True)
    return Lines(title, both("strength"), both("loss"), [tried, picked], x_log=True)


def _by_epoch(label: Text, name: str, records: Records, factor: float = 1) -> Series:
    found = [record for record in records if name in record]
    return Series(label, [one["epoch"] for one in found], [factor * one[name] for one in found])


def _accuracy_title(kind: str) -> Text:
    views = kind_of(kind).validates
    if not views:
        return both("val_accuracy")
    return Text(*(both("val_accuracy_of", views=_in(language, views)).of(language) for language in ("en", "zh")))


def _in(language: str, phrase: str) -> str:
    with speaking(language):
        return translated(phrase)
