"""The server's page for texts and series: forms of their own, and maps that a slider fades."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import restune
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

pytest.importorskip("fastapi", reason="the extra serve is not installed")

TEXT = "他说得对 <b> and more\nwords"
SERIES = np.sin(np.arange(60.0, dtype=np.float32)).reshape(2, 30)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(1)
    made = {}
    for name, preprocess, network_name, options in (
        ("text", TextPreprocess(), "textresnet", {"width": 8, "in_channels": 8, "vocabulary": 257}),
        ("series", SignalPreprocess(channels=2), "resnet1d_ts", {"width": 4, "in_channels": 2}),
    ):
        network = restune.create_model(network_name, num_classes=2, **options).eval()
        info = BundleInfo(spec=network.spec, classes=("no", "yes"), preprocess=preprocess, name=network_name)
        made[name] = Model(network, info, "test")
    return made


@pytest.fixture(scope="module")
def kinds(served, models):
    limits = served.Limits()
    engines = {name: served.Engine(model) for name, model in models.items()}
    with served.running(served.make_app(engines, limits), limits) as address:
        yield address


def said(prediction):
    return f"{prediction.label}: {prediction.probability:.1%}"


def shade(mark):
    return float(re.search(r"([\d.]+)\)$", mark.evaluate("e => getComputedStyle(e).backgroundColor")).group(1))


def test_a_text_is_coloured_by_its_map_and_the_slider_fades_it(kinds, models, open_served, axe):
    page = open_served(address=kinds)
    page.locator("#text").fill(TEXT)
    page.keyboard.press("Control+Enter")
    page.locator("#words").wait_for()
    (prediction,), (explanation,) = models["text"].predict(TEXT), models["text"].explain(TEXT)
    assert page.locator("#answer").inner_text().strip() == said(prediction)
    assert page.locator("#words").evaluate("e => e.textContent") == TEXT  # as text, not as HTML
    heat = explanation.on_original()
    strongest = page.locator("#words mark[style*='--share: 1']").first
    assert explanation.text[int(np.nanargmax(np.abs(heat)))] in strongest.inner_text()
    assert ("against" in strongest.get_attribute("class")) == (heat[np.nanargmax(np.abs(heat))] < 0)
    before = shade(strongest)
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    assert before > 0
    assert shade(strongest) == 0
    axe(page)


@pytest.mark.parametrize("how", ["file", "numbers"])
def test_a_series_is_drawn_with_its_map_and_a_cursor(kinds, models, open_served, axe, tmp_path, how):
    page = open_served(address=kinds, width=390, dark=how == "file")
    page.locator("#model").select_option("series")
    lines = "\n".join(",".join(f"{value:.9g}" for value in row) for row in SERIES)
    if how == "file":
        (tmp_path / "one.csv").write_text(lines)
        page.locator("#file").set_input_files(tmp_path / "one.csv")
    else:
        page.locator("#text").fill(lines)
        page.locator("#send").click()
    page.locator("svg.series").wait_for()
    (prediction,), (explanation,) = models["series"].predict(SERIES), models["series"].explain(SERIES)
    assert page.locator("#answer").inner_text().strip() == said(prediction)
    assert page.locator("svg.series .curve").count() == 2
    heat = explanation.on_original()
    best = int(np.argmax(heat))
    at = page.locator(".reading-at")
    assert at.inner_text().startswith(f"Position {best}: ")  # at first the cursor is where the map is largest
    page.locator("svg.series").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    share = round(float(heat[1] / np.abs(heat).max() * 100))
    assert at.inner_text() == f"Position 1: {SERIES[0, 1]:.4g}, {SERIES[1, 1]:.4g}; map: {share}% of its largest value"
    assert page.locator("svg.series").get_attribute("aria-valuetext") == at.inner_text()
    band = page.locator(".band").first
    before = band.evaluate("e => Number(getComputedStyle(e).opacity)")
    page.locator("#opacity").fill("10")
    assert 0 < band.evaluate("e => Number(getComputedStyle(e).opacity)") < before
    axe(page)


def test_numbers_that_are_none_are_said_to_be_and_feature_maps_of_series_are_strips(kinds, open_served):
    page = open_served(address=kinds)
    page.locator("#model").select_option("series")
    page.locator("#text").fill("1,2,3\n1,two,3")
    page.locator("#send").click()
    page.locator("#answer", has_text="line 2 is not a line of numbers").wait_for()
    page.locator("#text").fill("1,2,3,4\n4,3,2,1")
    page.locator("#send").click()
    page.locator("#inside > summary").click()
    first = page.locator(".map-button:visible").first
    first.wait_for()
    box = first.bounding_box()
    assert box["width"] > 10 * box["height"]
