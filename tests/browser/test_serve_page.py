"""The server's page: an image is chosen, pasted or asked by keyboard, and the answer is shown, in both languages."""

from __future__ import annotations

import base64
import re

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")


def answer_of(page):
    page.locator("#details").wait_for(state="visible")
    return page.locator("#answer").inner_text()


def tab_to(page, wanted):
    """Press Tab until an element has the focus."""
    reached = []
    while wanted not in reached:
        assert len(reached) < 15, reached
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
    before = page.locator("#map").evaluate("e => getComputedStyle(e).opacity")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#map").evaluate("e => getComputedStyle(e).opacity") < before


def test_the_language_switches_and_a_phone_in_the_dark_shows_everything(open_served, photos, axe):
    page = open_served(width=390, dark=True)
    page.locator("#file").set_input_files(photos / "dark.png")
    assert answer_of(page).startswith("dark: ")
    page.locator("#language").click()
    page.locator("html[lang=zh-CN]").wait_for()
    assert page.locator("#answer").inner_text().startswith("dark：")  # the answer stays, in the other language
    assert page.locator("#map").get_attribute("alt") == "dark 的类激活图"
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    axe(page)
    page.locator("#language").click()
    page.locator("html[lang=en]").wait_for()


def test_an_api_key_is_asked_for_and_a_wrong_one_is_said_to_be(served, open_served, tmp_path, photos):
    path = served.write_model(tmp_path / "light.safetensors")
    limits = served.Limits(api_keys=("secret",))
    engine = served.Engine(served.load_model(path, device="cpu"))
    with served.running(served.make_app({"light": engine}, limits), limits) as address:
        page = open_served(address=address)
        page.keyboard.type("guess")  # the field has the focus
        page.keyboard.press("Enter")
        page.locator("#answer", has_text="does not know this API key").wait_for()
        assert "401" in open_served.faults.pop()
        page.locator("#key").fill("secret")
        page.keyboard.press("Enter")
        page.locator("#drop").wait_for(state="visible")
        page.locator("#file").set_input_files(photos / "dark.png")
        assert answer_of(page).startswith("dark: ")
        page.locator("#inside > summary").click()
        page.locator(".map-button:visible").first.wait_for()


def answering(page, prediction, **described):
    """Let the page think that the server has one model and answers this."""
    model = {"name": "light", "network": "resnet8", "kind": "image", "task": "single-label", "threshold": None,
             "classes": ["dark", "bright"], "explains": False, "has_stages": False, **described}  # fmt: skip
    page.route("**/models", lambda route: route.fulfill(json={"models": [model]}))
    page.route("**/predict?*", lambda route: route.fulfill(json={"model": "light", "predictions": [prediction]}))
    page.reload()
    page.locator("#drop").wait_for(state="visible")


def test_not_sure_and_unlike_the_training_data_are_said(open_served, photos, axe):
    page = open_served()
    answering(page, {"input": "a", "label": "dark", "probability": 0.6, "top": [["dark", 0.6], ["bright", 0.4]],
                     "novel": True, "novelty": 1.2}, threshold=0.9)  # fmt: skip
    page.locator("#file").set_input_files(photos / "dark.png")
    said = answer_of(page)
    assert "Not sure: at 60.0% it is below the model's threshold of 90.0%" in said
    assert "unlike the training data" in said
    track = page.locator(".track").first.bounding_box()
    line = page.locator(".track .line").first.bounding_box()
    assert line["x"] == pytest.approx(track["x"] + 0.9 * track["width"], abs=2)
    assert page.locator("#map").is_hidden()
    assert page.locator("#photo").is_visible()
    axe(page)


def test_labels_numbers_and_a_thousand_classes(open_served, photos):
    page = open_served(width=390)
    labels = [["even", 0.9], ["big", 0.7], ["prime", 0.2]]
    answering(page, {"input": "a", "labels": ["even", "big"], "probabilities": dict(labels), "top": labels},
              task="multi-label", classes=["big", "even", "prime"])  # fmt: skip
    page.locator("#file").set_input_files(photos / "dark.png")
    assert answer_of(page).strip() == "Labels: even, big"
    assert page.locator(".bars .name").all_inner_texts() == ["✓ even", "✓ big", "prime"]
    answering(page, {"input": "a", "values": {"width": 12.345678, "height": 0.5}}, task="regression",
              classes=["width", "height"])  # fmt: skip
    page.locator("#file").set_input_files(photos / "dark.png")
    assert answer_of(page).strip() == "width = 12.35; height = 0.5"
    names = [f"a class with quite a long name, {number}" for number in range(1000)]
    answering(page, {"input": "a", "label": names[0], "probability": 0.1, "top": [[name, 0.1] for name in names[:10]]},
              classes=names)  # fmt: skip
    assert page.locator("#about-model").inner_text().count("long name") == 2
    page.locator("#file").set_input_files(photos / "dark.png")
    answer_of(page)
    assert page.locator("#bars-note").inner_text() == "The 10 most probable of 1000."


def failing(page, photos, **answer):
    page.unroute_all()
    page.route("**/predict?*", lambda route: route.fulfill(**answer))
    page.locator("#file").set_input_files(photos / "dark.png")


def test_what_goes_wrong_is_said_plainly(open_served, photos, tmp_path):
    page = open_served()
    said = page.locator("#answer")
    page.locator("#file").set_input_files(photos / "broken.png")
    said.get_by_text("That did not work").wait_for()
    assert page.locator("#details").is_hidden()
    (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
    page.locator("#file").set_input_files(tmp_path / "large.png")  # not even sent
    said.get_by_text("larger than the 1 MiB").wait_for()
    failing(page, photos, status=502, body="<html>Bad gateway</html>")
    said.get_by_text("status 502").wait_for()
    failing(page, photos, status=504, json={"error": {"what": "not answered", "where": None, "fix": None}})
    said.get_by_text("did not finish in time").wait_for()
    busy = {"error": {"what": "the queue is full", "where": None, "fix": None}}
    failing(page, photos, status=503, json=busy, headers={"Retry-After": "7"})
    said.get_by_text("try again in 7 s").wait_for()
    page.unroute_all()
    said.get_by_role("button", name="Try again").click()
    assert answer_of(page).startswith("dark: ")
    page.locator("#photo").evaluate("image => image.decode()")  # the same picture is shown again
    page.route("**/predict?*", lambda route: route.abort())
    page.locator("#file").set_input_files(photos / "dark.png")
    said.get_by_text("the server does not answer").wait_for()
    for _ in range(2400):
        if len(open_served.faults) >= 5:
            break
        page.wait_for_timeout(50)
    assert len(open_served.faults) == 5  # the browser's own reports of 422, 502, 504, 503 and of the connection
    open_served.faults.clear()


def test_several_images_are_listed_and_each_can_be_shown(open_served, photos, axe):
    page = open_served()
    page.locator("#file").set_input_files([photos / f"{name}.png" for name in ("dark", "broken", "bright")])
    page.locator("#several-title", has_text="3 of 3 inputs").wait_for()
    texts = page.locator("#several-list button").all_inner_texts()
    assert [text.split("\n")[0] for text in texts] == ["dark.png", "broken.png", "bright.png"]
    assert "bright: " in texts[2]
    assert answer_of(page).startswith("dark: ")
    page.locator("#several-list button").nth(2).focus()
    page.keyboard.press("Enter")
    page.locator("#answer", has_text=re.compile(r"^\s*bright: ")).wait_for()
    assert page.evaluate("document.activeElement.innerText").startswith("bright.png")  # the focus stays
    assert page.locator("#several-list button[aria-pressed=true]").inner_text().startswith("bright.png")
    axe(page)
    assert "422" in open_served.faults.pop()


DROP = """([content, target]) => {
  const moved = new DataTransfer();
  moved.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], "one.png"));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: moved, bubbles: true, cancelable: true });
    document.querySelector(target).dispatchEvent(event);
  }
}"""


def test_dropping_an_image_anywhere_on_the_page(open_served, photos):
    page = open_served()
    page.evaluate(DROP, [base64.b64encode((photos / "bright.png").read_bytes()).decode(), "h1"])
    assert answer_of(page).startswith("bright: ")
    assert "over" not in page.locator("#drop").get_attribute("class")
    text = "const moved = new DataTransfer(); moved.setData('text/plain', 'a word');"
    event = "new DragEvent('drop', { dataTransfer: moved, bubbles: true, cancelable: true })"
    assert page.evaluate(f"() => {{ {text} return document.body.dispatchEvent({event}); }}")  # left to the browser
