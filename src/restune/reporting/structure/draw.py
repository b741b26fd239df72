"""Whole figures: one network, or two side by side with their differences marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from restune.networks.structure import Description, ModelInfo
from restune.reporting.phrases import phrases
from restune.reporting.structure.figure import (
    NARROW,
    WIDE,
    Style,
    Subject,
    figure_panels,
    filler_panel,
    legend_panel,
    style_for,
)
from restune.reporting.structure.geometry import Drawing, beside, stacked
from restune.reporting.structure.svg import svg_document
from restune.reporting.structure.words import Say


@dataclass(frozen=True)
class Sheet:
    """A figure's panels, one column per network, all panels of a row of the same height, and its legend."""

    columns: tuple[tuple[Drawing, ...], ...]
    legend: Drawing

    def drawing(self, gap: float = 36.0) -> Drawing:
        """Return the whole figure."""
        figure = beside((stacked(column) for column in self.columns), gap)
        return stacked([figure, self.legend])


def subjects(models: Sequence[ModelInfo]) -> list[Subject]:
    """Return one network to draw, or two that are compared."""
    described = [model.description for model in models]
    others = described[::-1] if len(described) == 2 else [None]
    return [Subject(model.title, model.description, other) for model, other in zip(models, others, strict=True)]


def sheet(drawn: Sequence[Subject], style: Style, say: Say, *, fold: str = "grouped") -> Sheet:
    """Lay out one network, or two in aligned columns."""
    styles = [style_for(subject, style, say) for subject in drawn]
    columns = [figure_panels(subject, own, say, fold=fold) for subject, own in zip(drawn, styles, strict=True)]
    if len(drawn) == 2:
        columns = _aligned(drawn, columns, styles, say, fold)
    width = sum(own.width for own in styles) + 36 * (len(styles) - 1)
    kinds = {kind for subject in drawn for kind in kinds_in(subject.description)}
    legend = legend_panel(replace(style, width=width), say, sorted(kinds), compared=len(drawn) == 2)
    return Sheet(tuple(tuple(column) for column in columns), legend)


def kinds_in(described: Description) -> set[str]:
    """Return the kinds of layers that a network has, ``shortcut`` if it has any, and ``activation_other`` if its
    activations are not all ReLU."""
    blocks = [block for part in described.parts for block in part.blocks]
    layers = [layer for part in described.parts for layer in part.layers]
    layers += [layer for block in blocks for layer in block.layers]
    shortcuts = {"shortcut"} if any(block.shortcut != "none" for block in blocks) else set()
    others = any(layer.kind == "activation" and layer.label.lower() != "relu" for layer in layers)
    return {layer.kind for layer in layers} | shortcuts | ({"activation_other"} if others else set())


def _aligned(
    drawn: Sequence[Subject], columns: Sequence[Sequence[Drawing]], styles: Sequence[Style], say: Say, fold: str
) -> list[list[Drawing]]:
    """Give the parts of the same name the same height; leave a place where one network has no such stage."""
    names = [["title", *(part.name for part in subject.description.parts)] for subject in drawn]
    rows = [name for name in max(names, key=len) if name != "head"]
    tall = {
        name: max(column[own.index(name)].height for own, column in zip(names, columns, strict=True) if name in own)
        for name in [*rows, "head"]
    }
    aligned = []
    for subject, style, own in zip(drawn, styles, names, strict=True):
        panels = figure_panels(subject, style, say, fold=fold, least=[tall[name] for name in own])
        by_name = dict(zip(own, panels, strict=True))
        column = [by_name.get(name) or filler_panel(style, tall[name]) for name in rows]
        aligned.append([*column, by_name["head"]])
    return aligned


def draw_svg(models: Sequence[ModelInfo], language: str = "en") -> str:
    """Draw one network, or two side by side, as an SVG document."""
    say = phrases(language)
    drawn = subjects(models)
    narrow = [sheet([subject], NARROW, say) for subject in drawn]
    phone = stacked([part for each in narrow for part in (stacked(each.columns[0]), each.legend)])
    wide = sheet(drawn, WIDE if len(drawn) == 1 else NARROW, say).drawing()
    return svg_document(wide, phone, " – ".join(model.title for model in models))
