"""Drawings of images', videos' and texts' networks in the browser: they fit a phone, fold, and name their layers."""

from __future__ import annotations

import pytest

import restune
from restune.reporting.structure.page import structure_page

DRAWN = {"resnet18": ("resnet18",), "video": ("r2plus1d_18",), "text": ("vdcnn29",), "two": ("resnet18", "resnet50")}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("structures")
    for number, (name, networks) in enumerate(DRAWN.items()):
        models = [restune.models(network)[0] for network in networks]
        page = structure_page(models, "restune models", ("en", "zh")[number % 2])
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_fits_folds_and_prints(name, pages, open_page):
    for width, dark in ((1280, False), (390, True)):
        page = open_page(pages / f"{name}.html", width=width, dark=dark, alone=True)
        figures = page.locator("svg.structure.figure:visible")
        assert figures.count() == len(DRAWN[name])
        unfolded = figures.first.bounding_box()
        assert unfolded["x"] >= 0
        assert unfolded["x"] + unfolded["width"] <= width
        page.locator("button:visible").first.click()  # fold all
        folded = page.locator("svg.structure.figure:visible").first.bounding_box()
        assert folded["height"] < 0.8 * unfolded["height"]
        assert page.locator("svg.structure.figure:visible title").count() > 5  # what hovering shows
    page.emulate_media(media="print")
    assert page.locator("button:visible").count() == 0
