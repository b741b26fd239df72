"""label.html: keys and buttons label the items, progress is kept, and the saved table is what the other verbs read."""

from __future__ import annotations

import csv
import json
import shlex

import numpy as np
import pytest

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset
from restune.evaluation.learning_curve import CurvePoints, learning_curve
from restune.reporting.label_page import label_page

ODD = 'comma, "quote"'


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A folder of twelve photos and a table of six labels; what `restune label` writes of them, and its result."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("label")
    (folder / "photos").mkdir()
    random = np.random.default_rng(0)
    names = [f"{number:02d}.png" for number in range(11)] + [f"{ODD}.png"]
    for number, name in enumerate(names):
        pixels = random.integers(0, 60, (18, 18, 3), dtype=np.uint8)
        (pixels if number % 2 else pixels.swapaxes(0, 1))[::3] += 150  # stripes, across or down
        Image.fromarray(pixels).save(folder / "photos" / name)
    rows = ["path,label", *(f"{names[number]},{'across' if number % 2 else 'down'}" for number in range(6))]
    (folder / "first.csv").write_text("\n".join(rows) + "\n")
    made = restune.label(folder / "photos", labels=folder / "first.csv", next=6, out=folder / "out")
    return folder, made


def saved(page, name="labels.csv"):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=f"Save {name}").click()
    assert waiting.value.suggested_filename == name
    with waiting.value.path().open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def current(page):
    return page.locator("#name").inner_text().partition(" · ")[2]


def test_the_suggestions_are_right_and_every_unlabelled_photo_is_proposed(labelled):
    _, made = labelled
    assert {one.item for one in made.proposed} == {"06.png", "07.png", "08.png", "09.png", "10.png", f"{ODD}.png"}
    for one in made.proposed:
        number = 11 if one.item.startswith("comma") else int(one.item[:2])
        assert one.suggestion == ("across" if number % 2 else "down")
    assert made.judge == "fitted"


def test_keys_label_skip_undo_and_the_table_has_old_and_new_labels(labelled, open_page):
    folder, made = labelled
    page = open_page(made.out / "label.html", alone=True)
    order = [one.item for one in made.proposed]
    assert current(page) == order[0]
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    assert page.locator("#progress").inner_text() == "3 of 6 labelled, 1 skipped"
    page.keyboard.press("Backspace")
    assert current(page) == order[3], "undo returns to the item"
    assert page.locator("#progress").inner_text() == "2 of 6 labelled, 1 skipped"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("2")
    assert page.locator("#progress").inner_text() == "3 of 6 labelled, 0 skipped", "a skipped item can be labelled"
    page.get_by_label("Another class").fill("  grey   one ")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="3 grey one").click()
    first = json.loads((folder / "out" / "label.json").read_text())["proposed"]
    assert [one["item"] for one in first] == order
    rows = saved(page)
    assert rows[0] == ["path", "label"]
    assert len(rows) == 1 + 6 + 4
    new = dict(rows[7:])
    assert new == {order[0]: "across", order[1]: "down", order[2]: "down", order[3]: "grey one"}


def test_progress_is_kept_and_enter_takes_the_suggestion_unless_it_is_hidden(labelled, open_page):
    _, made = labelled
    page = open_page(made.out / "label.html")
    page.keyboard.press("Enter")
    page.keyboard.press("-")
    assert page.locator("#guess").inner_text() == ""
    page.keyboard.press("Enter")
    labelled_one = page.locator("#progress", has_text="1 of 6 labelled, 0 skipped")
    labelled_one.wait_for()
    page.reload()
    labelled_one.wait_for()
    assert page.get_by_role("button", name="Show suggestions").is_visible()
    assert saved(page)[-1] == [made.proposed[0].item, made.proposed[0].suggestion]


def test_the_printed_command_trains_with_the_saved_table(labelled, open_page, run, tmp_path, monkeypatch):
    folder, made = labelled
    page = open_page(made.out / "label.html")
    for _ in made.proposed:
        page.keyboard.press("Enter")
    assert "save the table" in page.locator("#message").inner_text()
    rows = saved(page)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    data = open_dataset(tmp_path / "labels.csv", DataOptions(root=folder / "photos"))
    assert data.class_counts() == {"across": 6, "down": 6}
    words = shlex.split(made.commands[0])
    assert words[:3] == ["restune", "finetune", "labels.csv"]
    assert page.locator("pre").inner_text().splitlines()[0] == made.commands[0]
    monkeypatch.chdir(tmp_path)
    # Without published weights a network of its own is trained, with the words that say where the data is.
    done = run(
        "train", *words[2:], "--model", "resnet8", "--image-size", 16, "--epochs", 1, "--out", "r", "--val", 0.25
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "model.safetensors").is_file()


@pytest.mark.parametrize(("language", "width", "dark"), [("en", 1280, False), ("zh", 390, True)])
def test_the_page_opens_alone_and_is_accessible(labelled, open_page, axe, tmp_path, language, width, dark):
    folder, made = labelled
    data = open_dataset([(path, "dark") for path in sorted((folder / "photos").iterdir())] + [("x.png", "<b>bright")])
    sizes = np.array([8, 12, 18])
    right = np.random.default_rng(0).random((20, 1)) > 0.1 + 0.8 * sizes**-0.5
    points = CurvePoints(sizes=sizes, correct=right.astype(float), noise=np.full(3, 0.02))
    page_text = label_page(
        data, made.proposed, table={"form": "path", "name": "labels.csv", "known": [], "rest": [], "open": True},
        commands=made.commands, curve=learning_curve(points, 20, [50, 200]), judge="fitted", language=language,
    )  # fmt: skip
    path = tmp_path / "label.html"
    path.write_text(page_text, encoding="utf-8")
    page = open_page(path, width=width, dark=dark, alone=True)
    page.keyboard.press("1")
    axe(page)
    assert ("50 more labels: " if language == "en" else "再标注 50 个：") in page.locator(".conclusion").inner_text()
    assert page.locator(".classes button").count() == 2
    assert "<b>bright" in page.locator(".classes").inner_text(), "the name of a class is text"
    strip = page.locator("#strip button").first
    assert strip.get_attribute("class") == "labelled"


def test_classes_of_one_character_have_their_own_key(labelled, open_page, tmp_path):
    folder, made = labelled
    data = open_dataset([(path, "0") for path in sorted((folder / "photos").iterdir())] + [("x.png", "7")])
    table = {"form": "path", "name": "labels.csv", "known": [], "rest": [], "open": True}
    path = tmp_path / "label.html"
    path.write_text(label_page(data, made.proposed, table=table, commands=[], curve=None, judge=""), encoding="utf-8")
    page = open_page(path)
    page.get_by_label("Another class").fill("eight")
    page.get_by_role("button", name="Add").click()
    page.locator("h1").click()
    for key in "071":
        page.keyboard.press(key)
    assert [row[1] for row in saved(page)[1:]] == ["0", "7", "eight"]


def test_decisions_on_the_rows_of_a_table(tmp_path, open_page):
    rows = [
        "text,label",
        *(f"a {'good' if n % 2 else 'bad'} line of number {n},{'good' if n % 2 else 'bad'}" for n in range(8)),
    ]
    rows += [f'"a good, line {n}",' for n in range(5)]
    (tmp_path / "texts.csv").write_text("\n".join(rows) + "\n")
    made = restune.label(tmp_path / "texts.csv", next=3, out=tmp_path / "out", data_options=DataOptions(kind="text"))
    page = open_page(made.out / "label.html")
    assert page.locator("#adding").count() == 0, "a class that the table does not have would be refused"
    assert "a good, line" in page.locator("#shown").inner_text()
    page.keyboard.press("2")
    table = saved(page, "decisions.csv")
    assert table[0] == ["item", "decision", "label"]
    assert [row[1:] for row in table[1:]] == [["relabel", "good"], *[["drop", ""]] * 4]
    with (tmp_path / "decisions.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    data = open_dataset(tmp_path / "texts.csv", DataOptions(kind="text", decisions=tmp_path / "decisions.csv"))
    assert data.class_counts() == {"bad": 4, "good": 5}
    again = restune.label(
        tmp_path / "texts.csv", labels=tmp_path / "decisions.csv", next=9, out=tmp_path / "again",
        data_options=DataOptions(kind="text"),
    )  # fmt: skip
    assert (again.labelled, len(again.proposed)) == (9, 4)
