"""A network's structure drawing with a figure on each block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape

from restune.networks.structure import Description, ModelInfo
from restune.reporting.phrases import phrases
from restune.reporting.structure.cards import HEADER, PAD, TEXT
from restune.reporting.structure.draw import sheet, subjects
from restune.reporting.structure.figure import NARROW, WIDE, Style
from restune.reporting.structure.geometry import Drawing, Label
from restune.reporting.structure.page import MOST_BLOCKS
from restune.reporting.structure.svg import paper, shapes, style_rules


@dataclass(frozen=True)
class Mark:
    """What a block's card shows.

    Args:
        text: a short figure, such as ``-12.5%``.
        stands_out: whether the card is outlined.
    """

    text: str
    stands_out: bool


def marked_figure(
    title: str, described: Description, marks: Mapping[str, Mark], style: Style, language: str
) -> Drawing:  # fmt: skip
    """Draw every block of a network on its own, with its mark. `marks` has an entry for each block's name."""
    info = ModelInfo(name=title, kind="", source="", image_size=None, weights=(), description=described)
    drawn = sheet(subjects([info]), style, phrases(language), fold="each")
    panels = list(drawn.columns[0])
    for number, part in enumerate(described.parts, start=1):  # panel 0 is the title
        cards = {f"card{place}": marks[block.name] for place, block in enumerate(part.blocks)}
        panels[number] = _with_marks(panels[number], cards)
    return replace(drawn, columns=(tuple(panels),)).drawing()


def marked_drawing(title: str, described: Description, marks: Mapping[str, Mark]) -> str | None:
    """Return SVG elements for a page: it shows the one of its language that suits the screen. None for a network of
    too many blocks to draw each."""
    if sum(len(part.blocks) for part in described.parts) > MOST_BLOCKS:
        return None
    elements = []
    for language in ("en", "zh"):
        for name, style in (("wide", WIDE), ("narrow", NARROW)):
            drawing = marked_figure(title, described, marks, style, language)
            elements.append(
                f'<svg class="structure marked {name} in-{language}" role="img" aria-label="{escape(title)}" '
                f'viewBox="0 0 {drawing.width:g} {drawing.height:g}">{paper(drawing)}{shapes(drawing)}</svg>'
            )
    return f"<style>{style_rules()}{_CHOICE}</style>{''.join(elements)}"


_CHOICE = """
.marked.narrow, .marked.in-zh, :lang(zh) .marked.in-en { display: none; }
:lang(zh) .marked.wide.in-zh { display: inline; }
@media screen and (max-width: 600px) {
  .marked.wide, :lang(zh) .marked.wide.in-zh, :lang(zh) .marked.in-en { display: none; }
  .marked.narrow.in-en, :lang(zh) .marked.narrow.in-zh { display: inline; }
  :lang(zh) .marked.narrow.in-en { display: none; }
}
"""
"""One drawing of four: by the page's language and the screen's width."""


def _with_marks(panel: Drawing, marks: Mapping[str, Mark]) -> Drawing:
    """Write each mark where a folded run of blocks has its count, and outline the cards that stand out."""
    boxes = tuple(
        replace(box, kind="card differs") if box.name in marks and marks[box.name].stands_out else box
        for box in panel.boxes
    )
    labels = tuple(
        Label(
            text=marks[box.name].text, x=box.x + box.width - PAD, y=box.y + HEADER - 5, size=TEXT, kind="badge",
            anchor="end", bold=True, inside=box.name,
        )
        for box in panel.boxes if box.name in marks
    )  # fmt: skip
    titles = (  # a plain block's title says "block 1 · no shortcut", which leaves no room
        replace(label, text=label.text.partition(" · ")[0]) if label.inside in marks else label
        for label in panel.labels
    )
    return replace(panel, boxes=boxes, labels=(*titles, *labels))
