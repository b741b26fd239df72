"""check.html: its buttons and keys make decisions.csv, which a run obeys; it opens alone, small, and accessible."""

from __future__ import annotations

import csv
import json

import pytest

import restune
from restune.data.audit.findings import CheckReport, Finding, Judge, in_order
from restune.data.sources import open_dataset
from restune.reporting.check_page import check_page

ODD = 'comma, "quote"'


@pytest.fixture
def data(tmp_path, write_noise):
    """Two classes of forty images, and one whose name needs quotes in CSV."""
    folder = write_noise(tmp_path / "data", bright=(120, 40), dark=(0, 40))
    (folder / "dark" / "039.png").rename(folder / "dark" / f"{ODD}.png")
    return folder


def findings():
    names = [f"bright/{number:03d}.png" for number in range(30)]
    return in_order(
        [
            *(Finding(name, "label-error", "warning", 0.99, "relabel: dark") for name in names),
            Finding("dark/001.png", "duplicate", "serious", 1.0, "drop: same as dark/000.png", ("dark/000.png",)),
            Finding("bright/000.png", "outlier", "warning", 0.5, "look: unlike the others"),
            Finding(f"dark/{ODD}.png", "outlier", "warning", 0.5, "look: unlike the others"),
            Finding("", "imbalance", "note", 0.5, "look: <b>not bold</b>"),
            Finding("dark/*.heic", "not-taken", "warning", 0.1, "look: 3 files .heic, not read"),
        ]
    )


@pytest.fixture
def written(data, tmp_path):
    """Write the page of some findings on the data, in a language."""

    def write(language="en", found=None):
        dataset = open_dataset(data)
        report = CheckReport(
            str(data), len(dataset), findings() if found is None else found, tmp_path, 1.0, Judge("patches", 0.62)
        )
        path = tmp_path / f"check.{language}.html"
        path.write_text(check_page(report, dataset, language=language))
        return path

    return write


def suspect(page, item, place=0):
    return page.locator(f'.suspect[data-item="{item.replace(chr(34), chr(92) + chr(34))}"]').nth(place)


def press(page, item, button):
    suspect(page, item).get_by_role("button", name=button, exact=True).click()


def saved(page):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save decisions.csv").click()
    assert waiting.value.suggested_filename == "decisions.csv"
    return waiting.value.path()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_opens_alone_and_is_accessible(written, open_page, axe, language, width, dark):
    page = open_page(written(language), width=width, dark=dark, alone=True)
    axe(page)
    text = page.locator("main").inner_text()
    assert page.locator(".conclusion").inner_text().count("35") == 1
    assert "<b>not bold</b>" in text, "a finding's text is text"
    assert "62.0%" in text
    assert ("Labels were judged" in text) == (language == "en")


def test_buttons_and_keys_make_the_file_that_training_obeys(written, open_page, data, tmp_path):
    page = open_page(written())
    press(page, "bright/000.png", "Drop")
    assert suspect(page, "bright/000.png", 1).locator(".decision").inner_text() == "drop", "one item, two findings"
    press(page, "bright/001.png", "Relabel")
    press(page, "bright/002.png", "Drop")
    press(page, "bright/002.png", "Undo")
    press(page, "dark/000.png", "Keep")
    press(page, f"dark/{ODD}.png", "Drop")
    suspect(page, "dark/001.png").get_by_role("combobox").select_option("bright")
    suspect(page, "bright/003.png").focus()
    page.keyboard.press("r")
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.dataset.item") == "bright/004.png"
    page.keyboard.press("d")
    page.keyboard.press("p")
    page.keyboard.press("n")
    page.keyboard.press("k")
    assert page.locator("#progress").inner_text() == "7 of 33 decided: 2 keep, 3 relabel, 2 drop"

    with saved(page).open(newline="", encoding="utf-8") as file:
        rows = {row["item"]: (row["decision"], row["label"]) for row in csv.DictReader(file)}
    assert rows == {
        "bright/000.png": ("drop", ""),
        "bright/001.png": ("relabel", "dark"),
        "dark/000.png": ("keep", ""),
        f"dark/{ODD}.png": ("drop", ""),
        "dark/001.png": ("relabel", "bright"),
        "bright/003.png": ("relabel", "dark"),
        "bright/004.png": ("keep", ""),
    }

    (tmp_path / "decisions.csv").write_bytes(saved(page).read_bytes())
    options = restune.DataOptions(decisions=tmp_path / "decisions.csv")
    run = restune.train(
        data, model="resnet8", image_size=16, epochs=1, out=tmp_path / "run", data_options=options, threads=1
    )
    with (run.out / "split.csv").open(newline="") as file:
        left_out = {row["item"] for row in csv.DictReader(file) if row["split"] == "left out"}
    assert left_out == {"bright/000.png", f"dark/{ODD}.png"}
    record = json.loads((run.out / "split.json").read_text())
    learned = {
        item: record["classes"][target]
        for split in record["splits"].values()
        for item, target in zip(split["ids"], split["targets"], strict=True)
    }
    changed = {item: label for item, label in learned.items() if not item.startswith(label)}
    assert changed == {"bright/001.png": "dark", "bright/003.png": "dark", "dark/001.png": "bright"}


def test_decisions_survive_a_reload_and_pages_turn(written, open_page):
    page = open_page(written())
    section = page.locator("#label-error")
    assert section.locator(".card:visible").count() == 24
    section.get_by_role("button", name="Next").click()
    assert section.locator(".card:visible").count() == 6
    press(page, "bright/029.png", "Drop")
    decided = page.locator("#progress", has_text="1 of 33 decided: 0 keep, 0 relabel, 1 drop")
    decided.wait_for()
    page.reload()
    decided.wait_for()
    assert "bright/029.png,drop," in saved(page).read_text()


def test_without_findings_there_is_nothing_to_decide(written, open_page, axe):
    page = open_page(written(found=()), alone=True)
    axe(page)
    assert page.get_by_role("button").count() == 0
    assert "Nothing was found in 80 items." in page.locator(".conclusion").inner_text()


def test_a_check_of_10_000_items_is_a_page_of_under_5_mb(tmp_path, written, open_page, write_noise):
    data = write_noise(tmp_path / "many", size=(96, 96), a=(0, 400), b=(120, 400))
    dataset = open_dataset(data)
    kinds = ("label-error", "outlier", "blurry", "dark", "light", "flat", "duplicate", "near-duplicate")
    found = [
        Finding(name, kind, "warning", 0.5, "look: at it", (other,))
        for kind in kinds
        for name, other in zip(dataset.ids(), reversed(list(dataset.ids())), strict=True)
    ]
    report = CheckReport(str(data), 10_000, in_order(found), tmp_path, 1.0)
    path = tmp_path / "many.html"
    path.write_text(check_page(report, dataset))
    assert 500_000 < path.stat().st_size < 5_000_000
    open_page(path, alone=True)


@pytest.mark.parametrize("kind", ["text", "series"])
def test_other_kinds_show_what_they_are(kind, tmp_path, open_page, axe):
    if kind == "text":
        (tmp_path / "data.csv").write_text("text,label\n" + "".join(f"a <i>word</i> {n},c{n % 2}\n" for n in range(30)))
    else:
        rows = "\n".join(f"{n % 2}\t" + "\t".join(str((n * step) % 7) for step in range(20)) for n in range(30))
        (tmp_path / "data.tsv").write_text(rows + "\n")
    dataset = open_dataset(next(tmp_path.glob("data.*")))
    first = next(iter(dataset.ids()))
    report = CheckReport("data", 30, (Finding(first, "outlier", "warning", 0.5, "look: odd"),), tmp_path, 1.0)
    (tmp_path / "check.html").write_text(check_page(report, dataset))
    page = open_page(tmp_path / "check.html", width=390, alone=True)
    axe(page)
    shown = suspect(page, first)
    assert ("a <i>word</i> 0" in shown.inner_text()) == (kind == "text")
    assert shown.locator("polyline").count() == (kind == "series")


def test_the_language_is_that_of_the_command(data, tmp_path, run):
    done = run("check", data, "--no-labels", "--lang", "zh", "--out", tmp_path / "zh")
    assert done.returncode == 0, done.stderr
    assert 'lang="zh-CN"' in (tmp_path / "zh" / "check.html").read_text()


def test_items_of_several_labels_are_kept_or_dropped(tmp_path, open_page):
    rows = "".join(f"a text on number {n},{n % 2},{(n + 1) % 2 or n % 3 == 0:d}\n" for n in range(30))
    (tmp_path / "data.csv").write_text("text,odd,other\n" + rows)
    dataset = open_dataset(tmp_path / "data.csv", restune.DataOptions(label_column="odd,other", task="multi-label"))
    first = next(iter(dataset.ids()))
    report = CheckReport("data", 30, (Finding(first, "outlier", "warning", 0.5, "look: odd"),), tmp_path, 1.0)
    (tmp_path / "check.html").write_text(check_page(report, dataset))
    page = open_page(tmp_path / "check.html", alone=True)
    assert suspect(page, first).get_by_role("button").all_inner_texts() == ["Keep", "Drop", "Undo"]
    assert "labelled other" in suspect(page, first).inner_text()
