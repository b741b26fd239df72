"""The server's page: an image is chosen, pasted or asked by keyboard, and the answer is shown, in both languages."""

from __future__ import annotations

import base64
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import restune
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.inference.model import Model
from restune.weights.bundle import BundleInfo

pytest.importorskip("fastapi", reason="the extra serve is not installed")


@pytest.fixture(scope="module")
def served():
    """The helpers of the server's tests."""
    path = Path(__file__).parents[1] / "serving" / "conftest.py"
    spec = importlib.util.spec_from_file_location("serving_helpers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photos(served, tmp_path_factory):
    """Photos of each class as files; "unusual" cannot be read."""
    folder = tmp_path_factory.mktemp("photos")
    for name, value in (("dark", 20), ("bright", 235)):
        (folder / f"{name}.png").write_bytes(served.photo(value))
    (folder / "broken.png").write_bytes(served.photo(20)[:80])
    return folder


@pytest.fixture(scope="module")
def address(served, tmp_path_factory):
    path = served.write_model(tmp_path_factory.mktemp("model") / "light.safetensors")
    limits = served.Limits()
    engine = served.Engine(served.load_model(path, device="cpu"))
    with served.running(served.make_app({"light": engine}, limits), limits) as found:
        yield found


@pytest.fixture
def open_served(browser, address):
    """Open the page; it fails on errors in the console and on requests to other addresses."""
    contexts, faults = [], []

    def open_it(query="", width=1280, dark=False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith((address, "data:", "blob:")) else faults.append(request.url),
        )
        page.goto(f"{address}/{query}")
        page.locator("#drop").wait_for(state="visible")
        return page

    open_it.faults = faults
    yield open_it
    for context in contexts:
        context.close()
    assert not faults, faults[:5]


def answer_of(page):
    page.locator("#details").wait_for(state="visible")
    return page.locator("#answer").inner_text()


def tab_to(page, wanted):
    """Press Tab until an element has the focus."""
    reached = []
    while wanted not in reached:
        assert len(reached) < 12, reached
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))


def test_choosing_an_image_shows_the_right_class_bars_and_a_map_with_a_slider(open_served, photos, axe):
    page = open_served()
    for name in ("dark", "bright"):
        page.locator("#file").set_input_files(photos / f"{name}.png")
        page.locator("#answer", has_text=re.compile(f"^\\s*{name}: ")).wait_for()
        assert answer_of(page).startswith(f"{name}: ")
    assert page.locator("#bars li").count() == 2
    assert page.locator("#bars li").first.inner_text().startswith("bright")
    widths = [bar.bounding_box()["width"] for bar in page.locator("#bars .bar").all()]
    assert widths[0] > widths[1]
    for picture in ("#photo", "#map"):
        page.locator(picture).evaluate("image => image.decode()")
    page.locator("#opacity").fill("25")
    assert page.locator("#map").evaluate("e => getComputedStyle(e).opacity") == "0.25"
    axe(page)


def test_pasting_an_image(open_served, photos):
    page = open_served()
    content = base64.b64encode((photos / "dark.png").read_bytes()).decode()
    page.evaluate(
        """(content) => {
          const blob = new Blob([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))]);
          const moved = new DataTransfer();
          moved.items.add(new File([blob], "pasted.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: moved, bubbles: true }));
        }""",
        content,
    )
    assert answer_of(page).startswith("dark: ")


def test_by_keyboard_alone(open_served, photos):
    page = open_served()
    with page.expect_file_chooser() as chosen:  # around the tabs: it takes a moment until choosers are intercepted
        tab_to(page, "choose")
        page.keyboard.press("Enter")
    chosen.value.set_files(photos / "bright.png")
    assert answer_of(page).startswith("bright: ")
    tab_to(page, "opacity")
    before = page.locator("#map").evaluate("e => e.style.opacity")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#map").evaluate("e => e.style.opacity") < before


def test_the_language_switches_and_a_phone_in_the_dark_shows_everything(open_served, photos, axe):
    page = open_served(width=390, dark=True)
    page.locator("#language").click()
    page.locator("html[lang=zh-CN]").wait_for()
    page.locator("#drop").wait_for(state="visible")
    page.locator("#file").set_input_files(photos / "dark.png")
    assert answer_of(page).startswith("dark：")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    axe(page)
    page.locator("#language").click()
    page.locator("html[lang=en]").wait_for()


def test_texts_and_series_have_forms_of_their_own(served, browser, tmp_path):
    limits, engines, preprocesses = served.Limits(), {}, {"text": TextPreprocess(), "series": SignalPreprocess()}
    options = {"text": {"width": 8, "in_channels": 8, "vocabulary": 257}, "series": {"width": 4, "in_channels": 1}}
    for name, network_name in (("text", "textresnet"), ("series", "resnet1d_ts")):
        network = restune.create_model(network_name, num_classes=2, **options[name]).eval()
        info = BundleInfo(spec=network.spec, classes=("no", "yes"), preprocess=preprocesses[name])
        engines[name] = served.Engine(Model(network, info, "test"))
    (tmp_path / "one.csv").write_text("1,2,3,4,5,6,7,8\n")
    with served.running(served.make_app(engines, limits), limits) as address:
        page = browser.new_page()
        page.goto(address)
        page.locator("#text").fill("他说得对 <b>")
        page.locator("#send").click()
        (wanted,) = engines["text"].model.predict("他说得对 <b>")
        assert answer_of(page).strip() == f"{wanted.label}: {wanted.probability:.1%}"
        page.locator("#model").select_option("series")
        assert page.locator("#text").is_hidden()
        page.locator("#file").set_input_files(tmp_path / "one.csv")
        (wanted,) = engines["series"].model.predict(np.arange(1.0, 9.0, dtype=np.float32))
        assert answer_of(page).strip() == f"{wanted.label}: {wanted.probability:.1%}"
        assert page.locator("#explained").is_hidden()
        page.close()


def test_an_api_key_is_asked_for(served, browser, tmp_path, photos):
    path = served.write_model(tmp_path / "light.safetensors")
    limits = served.Limits(api_keys=("secret",))
    engine = served.Engine(served.load_model(path, device="cpu"))
    with served.running(served.make_app({"light": engine}, limits), limits) as address:
        page = browser.new_page()
        page.goto(address)
        page.locator("#key").fill("secret")
        page.keyboard.press("Enter")
        page.locator("#drop").wait_for(state="visible")
        page.locator("#file").set_input_files(photos / "dark.png")
        assert answer_of(page).startswith("dark: ")
        page.close()


def test_not_sure_and_unlike_the_training_data_are_said(open_served, photos):
    page = open_served()
    page.route("**/models", lambda route: route.fulfill(json={"models": [{
        "name": "light", "kind": "image", "task": "single-label", "threshold": 0.9, "explains": False}]}))  # fmt: skip
    page.route("**/predict?*", lambda route: route.fulfill(json={"model": "light", "predictions": [{
        "input": "a", "label": "dark", "probability": 0.6, "top": [["dark", 0.6], ["bright", 0.4]], "novel": True,
        "novelty": 1.2}]}))  # fmt: skip
    page.reload()
    page.locator("#drop").wait_for(state="visible")
    page.locator("#file").set_input_files(photos / "dark.png")
    said = answer_of(page)
    assert "Not sure: at 60.0% it is below the model's threshold of 90.0%" in said
    assert "unlike the training data" in said


def test_an_unreadable_image_is_said_to_be(open_served, photos):
    page = open_served()
    page.locator("#file").set_input_files(photos / "broken.png")
    page.locator("#answer", has_text="did not work").wait_for()
    assert page.locator("#details").is_hidden()
    assert len(open_served.faults) == 1  # the browser's own report of status 422
    assert "422" in open_served.faults.pop()
