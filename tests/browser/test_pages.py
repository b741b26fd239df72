"""The pages of structures and lessons open alone, on a phone and in the dark, and are accessible."""

from __future__ import annotations

from dataclasses import replace

import pytest

import restune
from restune.core.language import Text
from restune.lessons.catalogue import find_lesson
from restune.lessons.lesson import Evidence, Table
from restune.lessons.page import lesson_page
from restune.lessons.result import LessonResult
from restune.reporting.plots import Contour, Lines, Series
from restune.reporting.structure.page import structure_page

CASES = [
    *(("structure", "en", 1280, False), ("structure", "zh", 390, True)),
    *(("compared", "en", 390, True), ("compared", "zh", 1280, False)),
    *(("lesson", "en", 1280, False), ("lesson", "zh", 390, True)),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The structure of one network, of two compared, and a lesson with every kind of panel."""
    folder = tmp_path_factory.mktemp("pages")
    (small,), (other,) = restune.models("resnet8"), restune.models("resnet20")
    for language in ("en", "zh"):
        for name, models in (("structure", [small]), ("compared", [small, other])):
            page = structure_page(models, "restune models resnet8 --html resnet8.html", language)
            (folder / f"{name}.{language}.html").write_text(page, encoding="utf-8")
        lesson = replace(_lesson(), language=language)
        (folder / f"lesson.{language}.html").write_text(lesson_page(lesson), encoding="utf-8")
    return folder


def _lesson():
    depth, loss = Text("depth", "深度"), Text("loss", "损失")
    series = [
        Series(
            Text(f"{kind} {at}", f"{kind} {at}"), [8, 20, 32], [0.5, 0.4, 0.3], [0.4, 0.3, 0.2], [0.6, 0.5, 0.4], at=at
        )
        for at in (8, 20)
        for kind in ("plain", "residual")
    ]
    still = [replace(one, at=None) for one in series[:2]]
    panels = [
        Lines(loss, depth, loss, series, slider=depth),
        Lines(loss, depth, loss, still, is_bars=True),
        Contour(loss, [0, 1], [0, 1], [[0.0, 1.0], [1.0, 2.0]], [0.5, 1.5]),
    ]
    table = Table(loss, [depth, loss], [[str(n), f"{n:.2f} (0.10 to 0.90, a wide cell)"] for n in range(3)])
    evidence = Evidence(Text("It falls.", "它下降。"), holds=True, facts={}, panels=panels, tables=[table])
    return LessonResult(
        out=None, lesson=find_lesson("gradient-flow"), evidence=evidence, language="en", seconds=3.0, data="digits",
        command="restune lesson gradient-flow", seeds=(0, 1), effort=1.0, machine={"cores": 2}, versions={"torch": "2"},
    )  # fmt: skip


@pytest.mark.parametrize(("name", "language", "width", "dark"), CASES)
def test_a_page_opens_alone_and_is_accessible(name, language, width, dark, pages, open_page, axe):
    axe(open_page(pages / f"{name}.{language}.html", width=width, dark=dark, alone=True))
