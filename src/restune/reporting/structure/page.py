"""The HTML page of one network, or of two compared: foldable drawing, tables, sources. One file, opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from restune.networks.structure import Block, ModelInfo, Part, runs_of_equal_blocks
from restune.reporting.pages import render
from restune.reporting.phrases import phrases
from restune.reporting.structure.draw import kinds_in, sheet, subjects
from restune.reporting.structure.figure import (
    FOLDS,
    NARROW,
    WIDE,
    Style,
    Subject,
    figure_panels,
    legend_panel,
    style_for,
)
from restune.reporting.structure.geometry import Drawing
from restune.reporting.structure.svg import paper, shapes, style_rules
from restune.reporting.structure.terminal import totals_ratio
from restune.reporting.structure.words import (
    Say,
    count_text,
    field_text,
    layer_title,
    part_name,
    role,
    shape_text,
)

MOST_BLOCKS = 300
"""Networks of more blocks are drawn with equal blocks folded only."""


def structure_page(models: Sequence[ModelInfo], command: str, language: str = "en") -> str:
    """Return the page of one network, or of two side by side.

    Args:
        models: one or two networks.
        command: the command that writes this page, printed at its end.
        language: ``en`` or ``zh``.
    """
    say = phrases(language)
    drawn = subjects(models)
    names = [model.title for model in models]
    compared = len(models) == 2
    title = say("comparison_of", one=names[0], two=names[1]) if compared else say("structure_of", name=names[0])
    kinds = sorted({kind for subject in drawn for kind in kinds_in(subject.description)})
    return render(
        "structure.html",
        language=language,
        title=title,
        rules=style_rules(),
        conclusion=_conclusion(models, say),
        figures=_compared_figures(drawn, say) if compared else _figures(drawn[0], say),
        legends=[_picture(legend_panel(style, say, kinds, compared=compared)) for style in (WIDE, NARROW)],
        tables=[_tables(model, models[1 - number] if compared else None, say) for number, model in enumerate(models)],
        sources=[line for model in models for line in _sources(model, say)],
        command=command,
    )


def _conclusion(models: Sequence[ModelInfo], say: Say) -> list[str]:
    sentences = [
        say(
            "conclusion",
            name=model.title,
            parameters=f"{model.description.parameters:,}",
            flops=count_text(model.description.flops),
            shape=shape_text(model.description.input_shape),
            field=shape_text(model.description.receptive_field),
        )
        for model in models
    ]
    if len(models) == 2:
        ratios = totals_ratio(models[0].description, models[1].description)
        sentences.insert(0, say("difference", one=models[0].title, two=models[1].title, **ratios))
    return sentences


def _figures(subject: Subject, say: Say) -> list[dict[str, str]]:
    return [
        {"place": "one for-desk", "svg": foldable(subject, style_for(subject, WIDE, say), say)},
        {"place": "one for-phone", "svg": foldable(subject, style_for(subject, NARROW, say), say)},
    ]


def _compared_figures(drawn: Sequence[Subject], say: Say) -> list[dict[str, str]]:
    columns = sheet(drawn, NARROW, say).columns
    least = [{name: panel.height for name, panel in zip(_names(drawn), column, strict=True)} for column in columns]
    return [
        {"place": "two", "svg": foldable(subject, style_for(subject, NARROW, say), say, heights)}
        for subject, heights in zip(drawn, least, strict=True)
    ]


def _names(drawn: Sequence[Subject]) -> list[str]:
    longest = max((subject.description.parts for subject in drawn), key=len)
    return ["title", *(part.name for part in longest)]


def foldable(subject: Subject, style: Style, say: Say, least: dict[str, float] | None = None) -> str:
    """Return a figure as an SVG element whose stages are drawn in every way of folding; the page's script shows one."""
    parts = subject.description.parts
    names = ["title", *(part.name for part in parts)]
    heights = [(least or {}).get(name, 0.0) for name in names]
    blocks = sum(len(part.blocks) for part in parts)
    folds = [fold for fold in FOLDS if fold != "each" or blocks <= MOST_BLOCKS]
    drawn = {
        fold: figure_panels(subject, style, say, fold=fold, least=heights if fold == "grouped" else ())
        for fold in folds
    }
    y, groups = 0.0, []
    for number, name in enumerate(names):
        ways = folds if number and parts[number - 1].blocks else ["grouped"]
        inner = "".join(_fold(drawn[fold][number], fold) for fold in ways)
        groups.append(f'<g class="panel" data-part="{name}" transform="translate(0 {y:.1f})">{inner}</g>')
        y += drawn["grouped"][number].height
    whole, title = Drawing(width=style.width, height=y), escape(subject.title)
    return (
        f'<svg class="structure figure" data-width="{style.width:g}" viewBox="0 0 {style.width:g} {y:.1f}" '
        f'role="group" aria-label="{title}" style="max-width: {style.width:g}px">{paper(whole)}{"".join(groups)}</svg>'
    )


def _fold(panel: Drawing, fold: str) -> str:
    hidden = "" if fold == "grouped" else ' style="display: none"'
    return f'<g data-fold="{fold}" data-height="{panel.height:.1f}"{hidden}>{shapes(panel)}</g>'


def _picture(drawing: Drawing) -> str:
    words = escape(", ".join(label.text for label in drawing.labels))
    return (
        f'<svg class="structure" viewBox="0 0 {drawing.width:g} {drawing.height:g}" role="img" aria-label="{words}" '
        f'style="width: 100%; max-width: {drawing.width:g}px">{shapes(drawing)}</svg>'
    )


def _tables(model: ModelInfo, other: ModelInfo | None, say: Say) -> dict[str, Any]:
    described = model.description
    keys = ("part", "role", "output", "col_parameters", "col_flops", "col_activations", "col_receptive_field")
    rows, before, known = [], described.input_shape, frozenset[str]()
    others = {part.name: part for part in other.description.parts} if other else {}
    for part in described.parts:
        cells = _cells(part, say)
        if other is not None:
            compared = _cells(others[part.name], say) if part.name in others else [""] * len(cells)
            cells = [_marked(cell) if cell != two else cell for cell, two in zip(cells, compared, strict=True)]
        rows.append([part_name(part, say), role(part, before, say, known), *cells])
        before, known = part.shape, known | {block.shortcut for block in part.blocks}
    totals = [f"{value:,}" for value in (described.parameters, described.flops, described.activations)]
    rows.append([say("total"), "", "", *totals, field_text(described.receptive_field)])
    return {
        "title": model.title,
        "headers": [say(key) for key in keys],
        "rows": rows,
        "words": [say("role")],
        "parts": [_block_table(part, say) for part in described.parts if part.blocks],
    }


def _cells(part: Part, say: Say) -> list[str]:
    field = field_text(part.receptive_field) if part.receptive_field else say("all")
    counts = [f"{value:,}" for value in (part.parameters, part.flops, part.activations)]
    return [shape_text(part.shape), *counts, field]


def _marked(text: str) -> str:
    from markupsafe import Markup

    return Markup("<mark>{}</mark>").format(text)


def _block_table(part: Part, say: Say) -> dict[str, Any]:
    keys = ("col_block", "col_shortcut", "col_layers", "output", "col_parameters", "col_flops", "col_receptive_field")
    count = say("count_block") if len(part.blocks) == 1 else say("count_blocks", n=len(part.blocks))
    return {
        "name": part_name(part, say),
        "summary": count,
        "headers": [say(key) for key in keys],
        "words": [say("col_layers")],
        "rows": [_run_row(run, say) for run in runs_of_equal_blocks(part.blocks)],
    }


def _run_row(run: Sequence[Block], say: Say) -> list[str]:
    first, last = run[0], run[-1]
    name = first.name if len(run) == 1 else f"{first.name} – {last.name}"
    layers = "; ".join(layer_title(layer, say) for layer in first.layers)
    times = f" × {len(run)}" if len(run) > 1 else ""
    field = field_text(first.receptive_field)
    field += f" – {field_text(last.receptive_field)}" if len(run) > 1 else ""
    counts = [f"{first.parameters:,}{times}", f"{first.flops:,}{times}"]
    return [name, say(first.shortcut), layers, shape_text(first.shape), *counts, field]


def _sources(model: ModelInfo, say: Say) -> list[str]:
    lines = [f"{model.title}: {model.source}"]
    if model.published:
        score = model.published
        lines.append(say("published", accuracy=f"{score.accuracy:.2%}", data=score.data, source=score.source))
    if model.weights:
        lines.append(f"{say('weights')}: {', '.join(model.weights)}")
    return lines
