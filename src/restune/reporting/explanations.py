"""A folder of explanations: one picture per input, and index.html, which shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.core.files import user_path, write_bytes, write_text
from restune.core.language import current_language
from restune.data.decode import decode_image
from restune.data.preprocess import Preprocess
from restune.data.resize import resize_to
from restune.evaluation.attribution.overlay import beside, data_url, encoded, strip
from restune.evaluation.attribution.series import series_svg, standalone
from restune.evaluation.attribution.words import shaded
from restune.inference.attribution.explanation import Explanation
from restune.inference.model import Prediction
from restune.reporting.pages import render
from restune.reporting.phrases import phrases

MOST_SHOWN, MOST_BYTES = 200, 4_000_000
"""Inputs and bytes that index.html shows; the pictures of the others are files beside it."""
_LONGEST = 560
_LONGEST_SHOWN = 520
_MOST_NAME = 48


@dataclass
class ExplanationFolder:
    """Writes explanations to a folder, one at a time.

    Args:
        folder: created if it is missing; files of the same names are replaced.
        name: the model's, for titles.
        preprocess: the model's.
        pool: how the network pools; "hidden" if hidden layers follow the pool.
        command: how to repeat this; "" to leave it out.
    """

    folder: Path
    name: str
    preprocess: Preprocess
    pool: str = "average"
    command: str = ""
    _cards: list[dict[str, Any]] = field(default_factory=list, init=False)
    _counts: dict[str, int] = field(default_factory=lambda: {"explained": 0, "unread": 0}, init=False)
    _how: str = field(default="", init=False)
    _shown: int = field(default=0, init=False)

    def add(self, prediction: Prediction, explanation: Explanation | None, content: Any) -> Path | None:
        """Write the picture of one input and return its path; None for an input that could not be read.

        Args:
            content: of the item, as its location reads it.
        """
        card: dict[str, Any] = {"input": _named(prediction.input), "predicted": "", "error": prediction.error}
        path = None
        if explanation is None or prediction.label is None or prediction.probability is None:
            self._counts["unread"] += 1
        else:
            self._counts["explained"] += 1
            self._how = self._how or self._method(explanation)
            card |= self._said(prediction, explanation)
            path = self._draw(card, explanation, content)
            card["file"] = path.name
        if self._has_room():
            self._cards.append(card)
            self._shown += sum(len(str(card.get(name, ""))) for name in ("url", "svg", "text"))
        return path

    def finish(self) -> Path:
        """Write index.html and return its path."""
        explained, unread = self._counts["explained"], self._counts["unread"]
        say = phrases(current_language())
        counted = say("explain_count_one") if explained == 1 else say("explain_count", n=f"{explained:,}")
        if unread:
            counted += " " + say("explain_unread", n=f"{unread:,}")
        hidden = explained + unread > len(self._cards)
        more = say("explain_more", n=len(self._cards), folder=self.folder.name) if hidden else ""
        path = self.folder / "index.html"
        write_text(path, self._page(self._cards, counted=counted, more=more, command=self.command))
        return path

    def _draw(self, card: dict[str, Any], explanation: Explanation, content: Any) -> Path:
        """Write the input's file, and put what index.html shows of it into its card."""
        kind, number = self.preprocess.kind, self._counts["explained"] + self._counts["unread"]
        is_text = kind == "text" and isinstance(content, str)
        stem = self.folder / file_stem(number, explanation.input, is_path=not is_text)
        if kind in ("image", "video"):
            draw = _photo if kind == "image" else _clip
            image = draw(explanation, content, self.preprocess)
            suffix, encoded_image = encoded(image)
            if self._has_room():
                card["url"] = data_url(image, _LONGEST_SHOWN if kind == "image" else 2 * _LONGEST_SHOWN)
            return _written(stem, suffix, encoded_image)
        if kind == "signal":
            svg = self._series(card["alt"], explanation, content)
            card["svg"] = Markup(svg)
            return _written(stem, ".svg", standalone(svg).encode())
        assert explanation.text is not None
        heat = explanation.on_original()
        card["text"] = shaded(explanation.text, heat)
        page = self._page([card], counted="", back=True)
        card["text"] = shaded(explanation.text, heat, most=2000)
        return _written(stem, ".html", page.encode())

    def _has_room(self) -> bool:
        return len(self._cards) < MOST_SHOWN and self._shown < MOST_BYTES

    def _page(self, cards: list[dict[str, Any]], **values: Any) -> str:
        language = current_language()
        say = phrases(language)
        defaults = {"back": False, "more": "", "command": ""}
        complete = [{"explained": "", "url": "", "svg": "", "text": "", "alt": "", "file": ""} | card for card in cards]
        return render(
            "explanations.html", language=language, title=say("explain_title", name=self.name), cards=complete,
            how=self._how, kind=self.preprocess.kind, narrow=self.preprocess.kind in ("image", "text"),
            **{**defaults, **values},
        )  # fmt: skip

    def _method(self, explanation: Explanation) -> str:
        key = explanation.method
        if key == "cam" and self.pool != "average":
            key = "cam_hidden" if self.pool == "hidden" else "cam_largest"
        return phrases(current_language())(f"explain_{key}", stage=explanation.stage)

    def _said(self, prediction: Prediction, explanation: Explanation) -> dict[str, str]:
        """Return the words of an input's card."""
        say = phrases(current_language())
        explained = ""
        if explanation.label != prediction.label:
            explained = say("explain_explained", label=explanation.label, probability=f"{explanation.probability:.1%}")
        return {
            "predicted": say(
                "explain_predicted", label=prediction.label, probability=f"{prediction.probability or 0:.1%}"
            ),
            "explained": explained,
            "alt": say(
                "explain_alt", input=_named(explanation.input), label=explanation.label, where=_where(explanation)
            ),
        }

    def _series(self, alt: str, explanation: Explanation, content: Any) -> str:
        say = phrases(current_language())
        values: NDArray[np.float32] = self.preprocess.whole(content).numpy()
        return series_svg(values, explanation.on_original(), alt, say("explain_channel", n="{n}"), say("explain_bars"))


def explanation_folder(folder: str | Path) -> Path:
    """Return the folder to write explanations to. Raises UserError if the name is a file's, or it cannot be made."""
    path = user_path(folder)
    if path.exists() and not path.is_dir():
        raise UserError("this is a file, not a folder", where=f"--explain {folder}", fix="name a folder")
    return path


def file_stem(number: int, name: str, *, is_path: bool = True) -> str:
    """Return a file name without suffix from an input's name: its number and at most 48 characters.

    Args:
        is_path: whether to drop folders and suffix; the name of a text is the text.

    >>> file_stem(3, "../photos/a b.jpg")
    '0003-a-b'
    """
    stem = re.sub(r"\.\w{1,5}$", "", re.split(r"[/\\]", name.rstrip("/\\"))[-1]) if is_path else name
    words = re.sub(r"[^\w.-]+", "-", stem)[:_MOST_NAME].strip("-.")
    while len(words.encode()) > 150:
        words = words[:-1]
    return f"{number:04d}-{words}" if words else f"{number:04d}"


def _written(stem: Path, suffix: str, content: bytes) -> Path:
    path = stem.with_name(stem.name + suffix)
    write_bytes(path, content)
    return path


def _photo(explanation: Explanation, content: Any, preprocess: Preprocess) -> Any:
    """Return the upright photo, shrunk, and beside it the same with its map."""

    def shrunk(pixels: Any) -> Any:
        height, width = pixels.shape[1:]
        share = _LONGEST / max(height, width)
        size = max(1, round(height * share)), max(1, round(width * share))
        return resize_to(pixels, *size, "bilinear" if share < 1 else "nearest")

    pixels = decode_image(content, preprocess.channels, then=shrunk).permute(1, 2, 0).numpy()
    return beside(pixels, explanation.on_original((pixels.shape[0], pixels.shape[1])))


def _clip(explanation: Explanation, content: Any, preprocess: Preprocess) -> Any:
    frames = preprocess.apply(content).permute(1, 2, 3, 0).numpy()
    return strip(frames, explanation.map)


def _where(explanation: Explanation) -> str:
    """Say where the largest value is, for readers who do not see the picture."""
    say = phrases(current_language())
    heat = explanation.on_original((90, 90)) if explanation.map.ndim == 2 else explanation.on_original()
    if not np.isfinite(heat).any():
        return say("explain_middle")
    best = np.unravel_index(int(np.nanargmax(heat)), heat.shape)
    if explanation.text is not None:
        place = int(best[0])
        span = next((one for one in explanation.characters if one[0] <= place < one[1]), (place, place + 1))
        return say("explain_where_text", word=explanation.text[slice(*span)])
    if heat.ndim == 1:
        return say("explain_where_series", n=int(best[0]))
    thirds = [min(2, 3 * int(place) // length) for place, length in zip(best[-2:], heat.shape[-2:], strict=True)]
    rows, columns = ("top", "middle", "bottom"), ("left", "centre", "right")
    return say("explain_where_image", y=say(f"explain_{rows[thirds[0]]}"), x=say(f"explain_{columns[thirds[1]]}"))


def _named(name: str) -> str:
    return _shortened(name) if name.strip() else phrases(current_language())("explain_empty")


def _shortened(name: str, most: int = 120) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
