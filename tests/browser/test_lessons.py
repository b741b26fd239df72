"""Every lesson runs through the command; its page stands alone, on a phone, in the dark and in print."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from html.parser import HTMLParser

import pytest

import restune.cli
from restune.lessons.catalogue import LESSONS, find_lesson

TEXTS = ("question", "claim", "method", "popular", "next_steps")
MANY_TRAININGS = ("gradient-flow", "transfer")
QUICK = ("freeze", "lesion")
SOME = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LESSONS]
"""All lessons, those of many trainings in the slow tests."""
SCREENS = [(1280, False), (390, True)]


def language_of(name):
    """The languages take turns."""
    return ("en", "zh")[list(LESSONS).index(name) % 2]


@pytest.fixture(scope="module")
def written(four_colours, tmp_path_factory):
    """Run a lesson by the command, once: what it printed, and its folder."""
    runs, folder = {}, tmp_path_factory.mktemp("lessons")

    def write(name):
        if name not in runs:
            seeds = 1 if name in MANY_TRAININGS else 2  # two give intervals
            options = ["--data", four_colours, "--seeds", seeds, "--effort", 0.02, "--lang", language_of(name)]
            arguments = ["restune", "lesson", name, *map(str, options), "--out", str(folder / name)]
            with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
                patch.setattr(sys, "argv", arguments)
                with pytest.raises(SystemExit) as ended:
                    restune.cli.main()
            assert not ended.value.code
            runs[name] = printed.getvalue(), folder / name
        return runs[name]

    return write


class Page(HTMLParser):
    """The ids of a page, what it would load, and its text."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.loads, self.text, self.references = [], [], "", set()
        self.feed(text)
        self.references |= set(re.findall(r"url\(#([^)]+)\)", text))

    def handle_starttag(self, _tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "data", "poster") and value:
                if value.startswith("#"):
                    self.references.add(value[1:])
                elif value != "data:,":
                    self.loads.append(value)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", SOME)
def test_a_lesson_writes_its_page(written, name):
    (printed, out), lesson, language = written(name), find_lesson(name), language_of(name)
    record = json.loads((out / "lesson.json").read_text(encoding="utf-8"))
    conclusion = record["evidence"]["conclusion"][language]
    for shown in (lesson.claim.of(language), conclusion, str(out / "lesson.html"), f"restune lesson {name} --data"):
        assert shown in printed
    assert "--effort 0.02" in record["command"]
    text = (out / "lesson.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == []
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert page.references <= set(page.ids)
    for told in (conclusion, *(getattr(lesson, part).of(language) for part in TEXTS), *lesson.sources):
        assert told in page.text
    assert page.text.index(conclusion) < page.text.index(lesson.claim.of(language)) < page.text.index(record["command"])
    assert text.count('<svg class="plot"') >= len(record["evidence"]["panels"]) >= 1
    colours = set(re.findall(r"#[0-9a-f]{6}\b", "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))))
    assert colours == set()  # plots take their colours from the page


@pytest.mark.parametrize("name", SOME)
def test_a_lesson_opens_alone_on_a_phone_in_the_dark_and_in_print(name, written, open_page, axe):
    for width, dark in SCREENS:
        page = open_page(written(name)[1] / "lesson.html", width=width, dark=dark, alone=True)
        axe(page)
        assert page.locator("svg.plot:visible").count() >= 1
        for panel in page.locator(".panel", has=page.locator("input[type=range]")).all():
            slider, drawings = panel.locator("input[type=range]"), panel.locator(".position")
            assert drawings.count() == int(slider.get_attribute("max")) + 1
            assert [drawing.is_visible() for drawing in drawings.all()].index(True) == drawings.count() - 1
            slider.fill("0")
            assert [drawing.is_visible() for drawing in drawings.all()] == [True] + [False] * (drawings.count() - 1)
    page.emulate_media(media="print")
    assert page.locator(".controls:visible").count() == 0
    for drawings in page.locator(".panel").all():  # paper has no slider: it shows every position
        assert all(position.is_visible() for position in drawings.locator(".position").all())


@pytest.mark.parametrize("name", SOME)
def test_words_of_a_plot_do_not_leave_it(name, written, open_page):
    """Titles, ticks and legends lie inside the drawing, so that nothing is cut on a phone or covers its neighbour."""
    page = open_page(written(name)[1] / "lesson.html", width=390, alone=True)
    outside = page.evaluate("""() => [...document.querySelectorAll("svg.plot")].filter(e => e.checkVisibility())
      .flatMap(plot => { const room = plot.getBoundingClientRect();
        return [...plot.querySelectorAll("text")].filter(text => { const box = text.getBoundingClientRect();
          return box.left < room.left - 2 || box.right > room.right + 2; }).map(text => text.textContent); })""")
    assert outside == []
