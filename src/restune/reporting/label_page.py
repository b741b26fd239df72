"""label.html: the proposed items, to be labelled by keyboard; it saves the table that the other verbs read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from restune.core.language import current_language
from restune.core.version import __version__
from restune.data.dataset import Dataset
from restune.data.items import location_at
from restune.evaluation.learning_curve import LearningCurve
from restune.reporting.pages import render
from restune.reporting.phrases import both, phrases
from restune.reporting.plots import Lines, Series, panel_svg
from restune.reporting.previews import Preview, preview

_SIDE, _SMALL_SIDE = 448, 256
"""Longer side of a picture, pixels, and of one of many."""
_MANY = 200
_CHARACTERS = 6000
_SOUND_BYTES = 2 * 2**20
"""Size up to which a sound can be heard on the page."""
_MOST_BYTES = 60 * 2**20
"""Size of all pictures and sounds, from which further items have none."""


class Proposed(Protocol):
    """What the page says of an item: see `runs.labelling.Proposal`."""

    @property
    def item(self) -> str: ...
    @property
    def suggestion(self) -> str: ...
    @property
    def probability(self) -> float | None: ...
    @property
    def position(self) -> int: ...


def label_page(
    dataset: Dataset,
    proposals: Sequence[Proposed],
    *,
    table: dict[str, Any],
    commands: Sequence[str],
    curve: LearningCurve | None,
    judge: str,
    language: str | None = None,
) -> str:
    """Return the page: self-contained, with a preview of each item, the class buttons and the learning curve.

    Args:
        dataset: items with and without a label.
        proposals: items to label, in order.
        table: what is saved: ``form``, the file's ``name``, the ``known`` rows (first column and label), whether
            classes can be added (``open``), and the ``rest``, ids of further unlabelled items (of decisions only).
        commands: to run with the saved table: training, and the next proposals.
        curve: accuracy by number of labels; None if it was not measured.
        judge: whose suggestions are shown, a head ``fitted`` to the labels or the model's ``own``; empty without one.
        language: ``en`` or ``zh``; by default the current one.
    """
    language = language or current_language()
    say = phrases(language)
    items = _items(dataset, proposals, str(table["form"]))
    classes = list(dataset.classes)
    facts = {
        **table,
        "classes": classes,
        "items": items,
        "key": _key(dataset, proposals),
        "words": {key: say(f"label_{key}") for key in _IN_SCRIPT},
        "templates": {key: say(f"label_{key}", **{name: f"{{{name}}}" for name in names}) for key, names in _FILLED},
    }
    return render(
        "label.html",
        language=language,
        source=dataset.source,
        count=len(items),
        known=len(table["known"]),
        classes=classes,
        facts=facts,
        file=table["name"],
        is_open=table["open"],
        commands=commands,
        judge=say(f"label_judged_{judge}") if judge else "",
        sentences=[] if curve is None else gain_sentences(curve, language),
        plot="" if curve is None else panel_svg(_panel(curve), language),
        version=__version__,
    )


_IN_SCRIPT = (
    "previous",
    "skip",
    "undo",
    "hide",
    "show",
    "all_done",
    "saved",
    "no_storage",
    "class_exists",
    "no_preview",
)
_FILLED = (
    ("progress", ("n", "total", "skipped")),
    ("place", ("n", "total")),
    ("guess", ("label", "share")),
    ("is_labelled", ("label",)),
    ("picture", ("item",)),
    ("jump", ("n", "item", "state")),
)


def _items(dataset: Dataset, proposals: Sequence[Proposed], form: str) -> list[dict[str, Any]]:
    """Return what the script shows of each item, and the first field of its row."""
    shown, size = [], 0
    side = _SMALL_SIDE if len(proposals) > _MANY else _SIDE
    for one in proposals:
        fits = size < _MOST_BYTES
        seen = preview(dataset, one.position, side=side, characters=_CHARACTERS) if fits else Preview()
        sound = _sound(dataset, one.position) if fits and dataset.kind == "signal" else ""
        size += seen.size + len(sound)
        entry: dict[str, Any] = {"id": one.item, "guess": one.suggestion, "share": _percent(one.probability)}
        content = {"picture": seen.picture, "curves": list(seen.curves), "text": seen.text, "sound": sound}
        entry |= {name: value for name, value in content.items() if value}
        if form == "text":
            entry["row"] = text_at(dataset, one.position)
        shown.append(entry)
    return shown


def text_at(dataset: Dataset, position: int) -> str:
    """Return an item's whole text."""
    from restune.data.preprocess.text import TextPreprocess

    return TextPreprocess().text_of(location_at(dataset.items, position).read())


def _sound(dataset: Dataset, position: int) -> str:
    """Return a sound file as a data URL; empty for one that is too large, and for other series."""
    try:
        content = location_at(dataset.items, position).read()
    except (OSError, ValueError, MemoryError):
        return ""
    if not isinstance(content, bytes) or len(content) > _SOUND_BYTES:
        return ""
    return "data:audio/wav;base64," + base64.b64encode(content).decode()


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}%"


def _key(dataset: Dataset, proposals: Sequence[Proposed]) -> str:
    """Return a name under which a browser keeps the labels of these items."""
    text = "\0".join([dataset.source, *(one.item for one in proposals)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def gain_sentences(curve: LearningCurve, language: str | None = None) -> list[str]:
    """Return what the curve says: the accuracy now, and what more labels would bring."""
    say = phrases(language or current_language())
    middle, low, high = (f"{100 * value:.1f}%" for value in curve.now)
    sentences = [say("label_now", n=f"{curve.labels:,}", accuracy=middle, low=low, high=high)]
    for gain in curve.gains:
        expected, least, most = (f"{100 * value:.1f}" for value in (gain.expected, gain.low, gain.high))
        sign = "" if expected.startswith("-") else "+"
        sentences.append(say("label_gain", n=f"{gain.more:,}", gain=f"{sign}{expected}", low=least, high=most))
    return sentences


def _panel(curve: LearningCurve) -> Lines:
    def percent(values: Sequence[float]) -> list[float]:
        return [100 * value for value in values]

    return Lines(
        both("label_curve"),
        both("label_axis_labels"),
        both("label_axis_accuracy"),
        [
            Series(both("label_fitted"), curve.at, percent(curve.middle), percent(curve.low), percent(curve.high),
                   is_dashed=True),
            Series(both("label_measured"), curve.sizes, percent(curve.accuracy)),
        ],
    )  # fmt: skip
