"""lesson.html: one self-contained page, its conclusion first, then the evidence, then how to repeat it."""

from __future__ import annotations

from typing import Any

from restune.core.language import Text
from restune.lessons.lesson import Table
from restune.lessons.result import LessonResult
from restune.reporting.pages import render
from restune.reporting.plots import Panel, panel_svg, positions

WORDS = {
    "supported": Text("The measurements support the claim.", "测量结果支持本课的论断。"),
    "not_supported": Text("The measurements do not support the claim.", "测量结果不支持本课的论断。"),
    "claim": Text("The claim", "论断"),
    "evidence": Text("The evidence", "证据"),
    "intervals": Text(
        "Figures are means over {n} seeds with 95% intervals (Student's t, cut at the ends of the possible range).",
        "数值为 {n} 个随机种子的均值，括号内与色带为 95% 置信区间（t 分布，截断在可能取值的范围内）。",
    ),
    "one_seed": Text("One seed: there are no intervals.", "只有一个随机种子，没有置信区间。"),
    "method": Text("The experiment", "实验方法"),
    "popular": Text("Where the popular story is wrong", "流行说法错在哪里"),
    "next_steps": Text("What to try next", "接下来试什么"),
    "sources": Text("Sources", "出处"),
    "repeat": Text("How to repeat this", "如何重现"),
    "ran": Text(
        "Data: {data}. Seeds: {seeds}. Effort {effort:g}. It took {seconds:.0f} seconds on {cores} cores with torch "
        "{torch}.",
        "数据：{data}。随机种子：{seeds}。力度 {effort:g}。在 {cores} 核、torch {torch} 上用时 {seconds:.0f} 秒。",
    ),
}


def verdict(result: LessonResult) -> str:
    """Return whether the measurements support the claim, in a sentence."""
    return WORDS["supported" if result.holds else "not_supported"].of(result.language)


def lesson_page(result: LessonResult) -> str:
    """Return the page of a lesson in its language."""
    language, lesson, evidence = result.language, result.lesson, result.evidence
    seeds = len(result.seeds)
    return render(
        "lesson.html",
        language=language,
        title=lesson.question.of(language),
        name=lesson.name,
        words={key: text.of(language) for key, text in WORDS.items()},
        intervals=WORDS["intervals"].of(language, n=seeds) if seeds > 1 else WORDS["one_seed"].of(language),
        conclusion=result.conclusion,
        verdict=verdict(result),
        holds=result.holds,
        claim=result.claim,
        method=lesson.method.of(language),
        popular=lesson.popular.of(language),
        next_steps=lesson.next_steps.of(language),
        sources=list(lesson.sources),
        drawing=evidence.drawing,
        panels=[_panel(panel, language) for panel in evidence.panels],
        tables=[_table(table, language) for table in evidence.tables],
        command=result.command,
        ran=WORDS["ran"].of(
            language,
            data=result.data,
            seeds=", ".join(map(str, result.seeds)),
            effort=result.effort,
            seconds=result.seconds,
            cores=result.machine["cores"],
            torch=result.versions["torch"],
        ),
    )


def _panel(panel: Panel, language: str) -> dict[str, Any]:
    """Return a panel's drawings, one per position of its slider, the last position shown first."""
    at = positions(panel)
    slider = getattr(panel, "slider", None)
    drawings: list[int | None] = [*at] if at else [None]
    return {
        "slider": None if slider is None or len(at) < 2 else slider.of(language),
        "drawings": [{"at": place, "svg": panel_svg(panel, language, at=place)} for place in drawings],
    }


def _table(table: Table, language: str) -> dict[str, Any]:
    """Return a table's cells; its first column holds words."""
    header = [name.of(language) for name in table.header]
    rows = [[cell.of(language) if isinstance(cell, Text) else cell for cell in row] for row in table.rows]
    return {"title": table.title.of(language), "header": header, "rows": rows, "words": header[:1]}
