"""The server's page: feature maps on the drawing of the structure, and the camera."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")


def opened(page, photo):
    page.locator("#file").set_input_files(photo)
    page.locator("#inside > summary").click()
    page.locator(".map-button:visible").first.wait_for()
    return page


def until(page, holds):
    """Wait until a script's value is true; the page's policy forbids what `wait_for_function` does."""
    for _ in range(2400):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(50)
    raise AssertionError(holds)


def focused(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent")


@pytest.mark.parametrize(("width", "form", "count"), [(1280, "wide", 8), (390, "narrow", 5)])
def test_each_stage_has_its_feature_maps_below_it(open_served, photos, axe, width, form, count):
    page = opened(open_served(width=width, dark=width < 1000), photos / "dark.png")
    drawing = page.locator(f"svg[data-form={form}]")
    assert drawing.is_visible()
    rows = drawing.locator("g.maps[role=group]")
    names = [rows.nth(number).get_attribute("aria-label") for number in range(rows.count())]
    assert names == [f"Feature maps of {part}" for part in ("stem", "stage 1", "stage 2", "stage 3")]
    assert [rows.nth(number).locator("image").count() for number in range(4)] == [count] * 4
    whole = drawing.bounding_box()
    for number in range(4):
        last = rows.nth(number).locator("image").last.bounding_box()
        assert last["y"] + last["height"] < drawing.locator("g.panel").nth(number + 2).bounding_box()["y"]
        assert last["x"] + last["width"] < whole["x"] + whole["width"]
    axe(page)


def test_the_maps_of_an_input_are_asked_for_once(open_served, photos):
    page, asked = open_served(), []
    page.on("request", lambda request: asked.append(request.url) if "/feature-maps?" in request.url else None)
    opened(page, photos / "dark.png")
    page.evaluate("drawn = document.querySelector('.map-button')")
    for is_open in ("false", "true"):
        page.locator("#inside > summary").click()
        until(page, f"document.getElementById('inside').open === {is_open}")
    page.evaluate("new Promise((done) => setTimeout(done))")  # after the event that tells of the opening
    page.wait_for_load_state("networkidle")
    assert len(asked) == 1
    assert page.evaluate("drawn.isConnected"), "drawn again, which takes the focus away"


def test_feature_maps_by_keyboard(open_served, photos, axe):
    page = opened(open_served(), photos / "dark.png")
    page.locator("[data-all=grouped]").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        if focused(page).startswith("stem, channel"):
            break
    first = focused(page)
    page.keyboard.press("ArrowRight")
    second = focused(page)
    assert second.startswith("stem, channel")
    assert second != first
    page.keyboard.press("Enter")
    page.locator("#larger").wait_for()
    assert page.locator("#larger-title").inner_text() == second
    assert re.match(
        r"32 × 32 positions, values from \S+ to \S+; one of 16 channels", page.locator("#larger-said").inner_text()
    )
    page.locator("#larger-map").evaluate("image => image.decode()")
    axe(page)
    page.keyboard.press("ArrowLeft")
    assert page.locator("#larger-title").inner_text() == first
    page.keyboard.press("Escape")
    assert focused(page) == second  # the focus returns
    page.keyboard.press("Tab")
    assert focused(page) == "stage 1"  # one stop per stage, and the stage's name folds it
    before = page.locator("svg[data-form=wide]").bounding_box()["height"]
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('svg[data-form=wide]').getBoundingClientRect().height > {before}")
    assert focused(page) == "stage 1"


def test_other_inputs_have_other_maps_and_the_drawing_speaks_both_languages(open_served, photos):
    page = opened(open_served(), photos / "dark.png")
    picture = "svg[data-form=wide] g.maps[role=group] image"
    before = page.locator(picture).first.get_attribute("href")
    with page.expect_response("**/feature-maps?*"):
        page.locator("#file").set_input_files(photos / "bright.png")
    until(page, f"![null, '{before}'].includes(document.querySelector('{picture}')?.getAttribute('href') ?? null)")
    page.locator("#language").click()
    page.locator("svg[data-form=wide] text:visible", has_text="第 1 阶段").first.wait_for()
    page.locator("svg[data-form=wide] [aria-label='第 1 阶段的特征图']").wait_for()


def test_a_drawing_that_comes_late_does_not_replace_the_one_asked_for_after_it(open_served, photos):
    page, held = open_served(), []
    page.route("**/structure?*lang=en", lambda route: held.append(route))
    page.locator("#file").set_input_files(photos / "dark.png")
    page.locator("#inside > summary").click()
    for _ in range(2400):
        if held:
            break
        page.wait_for_timeout(50)
    page.locator("#language").click()
    chinese = page.locator("svg[data-form=wide] text:visible", has_text="第 1 阶段")
    chinese.first.wait_for()
    with page.expect_response("**/structure?*lang=en") as late:
        held.pop().continue_()
    late.value.finished()
    page.wait_for_timeout(200)  # for the page to draw, if it did
    assert chinese.count()
    assert page.locator(".map-button:visible").count(), "the maps are below the drawing of the answer"


def test_the_camera_takes_pictures_and_answers_live_at_a_bounded_rate(open_served, axe):
    page = open_served(width=390)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/predict?" in request.url else None)
    page.locator("#camera-start").click()
    until(page, "document.getElementById('video').videoWidth > 0")
    until(page, "document.activeElement.id === 'shoot'")
    axe(page)
    page.keyboard.press("Enter")
    page.locator("#details").wait_for()
    assert re.match(r"(dark|bright): ", page.locator("#answer").inner_text())
    assert len(asked) == 1
    page.locator("#live").click()
    shown = page.locator("#photo").get_attribute("src")
    until(page, f"document.getElementById('photo').src !== '{shown}'")
    assert page.locator("#answer").get_attribute("aria-live") == "off"  # not read out twice a second
    page.evaluate("window.begun = performance.now()")
    page.wait_for_timeout(1300)
    seconds = page.evaluate("(performance.now() - window.begun) / 1000")
    assert 2 <= len(asked) <= 3 + seconds / 0.5
    page.locator("#live").click()
    page.locator("#camera-stop").click()
    assert page.locator("#video").is_hidden()
    assert page.evaluate("document.getElementById('video').srcObject") is None
    count = len(asked)
    page.wait_for_timeout(700)
    assert len(asked) <= count + 1  # the last picture's answer, no more
    assert page.locator("#answer").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize(
    ("name", "said"), [("NotAllowedError", "did not allow the camera"), ("NotFoundError", "there is no camera")]
)
def test_a_camera_that_does_not_open_is_explained(open_served, name, said):
    page = open_served()
    refuse = f"() => Promise.reject(new DOMException('no', '{name}'))"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refuse}; }}")
    page.locator("#camera-start").click()
    page.locator("#answer", has_text=said).wait_for()
    assert page.locator("#camera").is_hidden()
