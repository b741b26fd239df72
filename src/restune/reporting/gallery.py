"""The gallery of a report: mistakes and uncertain predictions with what was saved of each item, and its filter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from restune.core.files import write_text
from restune.evaluation.attribution.colours import css
from restune.evaluation.attribution.words import shaded
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.mistakes import Shown, to_look_at

GALLERY = Path("evaluation") / "gallery.json"
_WIDTH, _HEIGHT = 240, 60
_MOST_BYTES = 32 * 2**20
_SAFE = ("data:image/webp;base64,", "data:image/jpeg;base64,", "data:image/png;base64,")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What is saved of an item to be shown without the data; empty where a kind does not have it.

    Args:
        image: a thumbnail of what the network reads, as a data URL.
        overlay: the same with the attribution over it.
        is_small: whether the image has so few pixels that they are shown as squares.
        text: the beginning of a text.
        heat: one value per character of `text`, from -1 to 1.
        series: some channels of a series, thinned out, each from 0 to 1.
        weight: one value per position of `series`, from -1 to 1.
    """

    image: str = ""
    overlay: str = ""
    is_small: bool = False
    text: str = ""
    heat: tuple[float, ...] = ()
    series: tuple[tuple[float, ...], ...] = ()
    weight: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what is not empty."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True, kw_only=True)
class Card:
    """An entry of the gallery, its texts in the field's words."""

    id: str
    why: str
    true: str
    predicted: str
    runner_up: str
    probability: float
    true_probability: float
    saved: Saved = field(repr=False, default_factory=Saved)

    @property
    def is_right(self) -> bool:
        """Whether the prediction is the true class."""
        return self.true == self.predicted

    @property
    def series_svg(self) -> Markup:
        """The series as a drawing without text; the card describes it."""
        return series_svg(self.saved)

    @property
    def text_html(self) -> Markup:
        """The text, its characters shaded by what they contributed."""
        return text_html(self.saved)


def write_gallery(folder: Path, split: str, saved: Mapping[str, Saved]) -> None:
    """Write what is shown of items, by id, into a run's folder."""
    items = {name: one.to_dict() for name, one in saved.items()}
    write_text(folder / GALLERY, json.dumps({"schema_version": 1, "split": split, "items": items}, ensure_ascii=False))


def read_gallery(folder: Path) -> tuple[str | None, dict[str, Saved]]:
    """Read the split and the saved items; None and nothing where a run has no gallery, or one that is damaged."""
    path = folder / GALLERY
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None, {}
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["split"], {name: _saved(one) for name, one in content["items"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}


def cards(evaluation: Evaluation, saved: Mapping[str, Saved]) -> list[Card]:
    """Return the entries of an evaluation's gallery: the worst mistakes, then the most uncertain predictions."""
    return [_card(one, evaluation, saved) for one in to_look_at(evaluation)]


def _card(one: Shown, evaluation: Evaluation, saved: Mapping[str, Saved]) -> Card:
    classes, name = evaluation.classes, evaluation.ids[one.position]
    return Card(
        id=name,
        why=one.why,
        true=classes[one.true],
        predicted=classes[one.predicted],
        runner_up=classes[one.runner_up],
        probability=one.probability,
        true_probability=one.true_probability,
        saved=saved.get(name, Saved()),
    )


def series_svg(saved: Saved) -> Markup:
    """Draw channels as lines, and how much each position spoke for the prediction as bars below them."""
    rows = len(saved.series)
    height = rows * _HEIGHT + (14 if saved.weight else 0)
    lines = []
    for number, values in enumerate(saved.series):
        step = _WIDTH / max(1, len(values) - 1)
        points = " ".join(
            f"{place * step:.1f},{(number + 1) * _HEIGHT - 4 - value * (_HEIGHT - 8):.1f}"
            for place, value in enumerate(values)
        )
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="var(--series-{number % 8 + 1})" stroke-width="1.4"/>'
        )
    width = _WIDTH / max(1, len(saved.weight))
    lines += [
        f'<rect x="{place * width:.1f}" y="{height - 12 * abs(value):.1f}" width="{width + 0.3:.1f}" '
        f'height="{12 * abs(value):.1f}" '
        f'fill="{css(value, 1.0)}"/>'
        for place, value in enumerate(saved.weight)
    ]
    return Markup(f'<svg class="series" viewBox="0 0 {_WIDTH} {height}" aria-hidden="true">{"".join(lines)}</svg>')


def text_html(saved: Saved) -> Markup:
    """Return a text as HTML, its characters shaded by what they added to the prediction; strong ones underlined."""
    if len(saved.heat) != len(saved.text):
        return escape(saved.text)
    return shaded(saved.text, np.array(saved.heat, np.float32))


def _saved(content: Mapping[str, Any]) -> Saved:
    """Read an item. Raises ValueError, KeyError, TypeError for content that a page must not show."""
    for name in ("image", "overlay"):
        if not str(content.get(name, _SAFE[0])).startswith(_SAFE):
            raise ValueError(f"{name} is not an image of its own")
    return Saved(
        image=str(content.get("image", "")),
        overlay=str(content.get("overlay", "")),
        is_small=bool(content.get("is_small", False)),
        text=str(content.get("text", "")),
        heat=tuple(map(float, content.get("heat", ()))),
        series=tuple(tuple(map(float, values)) for values in content.get("series", ())),
        weight=tuple(map(float, content.get("weight", ()))),
    )
