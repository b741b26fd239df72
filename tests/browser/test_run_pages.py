"""Reports and comparisons in a browser: alone, in both languages, on a phone, in the dark, accessible, and used."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import restune

COUNT = 24


@pytest.fixture(scope="module")
def runs(tmp_path_factory, write_noise):
    """Runs on images, texts and series that are hard enough for mistakes, in folders of these names."""
    folder = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    write_noise(folder / "photos", **{"a, b": (60, COUNT), "<i>c": (55, COUNT), "night": (0, COUNT)})
    words = ["fine", "poor", "film", "plot", "很好", "<b>"]
    lines = [f"{random.choice(['good', 'bad'])} {' '.join(random.choice(words, 9))} {n}" for n in range(60)]
    (folder / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
    head = ["@problemName test", "@univariate true", "@classLabel true fast slow", "@data"]
    series = [",".join(f"{value:.3f}" for value in random.normal(0, 1, 40)) for _ in range(60)]
    rows = [f"{values}:{random.choice(['fast', 'slow'])}" for values in series]
    (folder / "series.ts").write_text("\n".join([*head, *rows]) + "\n")
    photos = {"model": "resnet8", "image_size": 16, "batch_size": 8, "test": 0.5, "set": {"spec.width": 4}}
    restune.train(folder / "photos", out=folder / "seeds", epochs=2, seeds=2, **photos)
    restune.train(folder / "photos", out=folder / "longer", epochs=3, **photos)
    shutil.copytree(folder / "seeds" / "seed-0", folder / "image")
    small = {"spec.in_channels": 8, "spec.stem_width": 8, "spec.width": 8, "spec.depths": [1, 1]}
    kind = restune.DataOptions(kind="text")
    restune.train(folder / "texts.txt", out=folder / "text", epochs=1, test=0.3, data_options=kind, set=small)
    short = {"spec.width": 4}
    restune.train(folder / "series.ts", out=folder / "series", model="resnet1d_ts", epochs=1, test=0.3, set=short)
    shutil.rmtree(folder / "photos")
    for name in ("texts.txt", "series.ts"):
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "language", "width", "dark"),
    [
        ("image", "en", 1280, False),
        ("image", "zh", 390, True),
        ("text", "zh", 390, False),
        ("series", "en", 390, True),
        ("seeds", "zh", 390, True),
        ("image longer seeds", "en", 1280, False),
    ],
)
def test_a_page_drawn_from_saved_files_opens_alone_and_is_accessible(
    name, language, width, dark, runs, tmp_path, open_page, axe
):
    page = restune.report([runs / one for one in name.split()], out=tmp_path / "page.html", lang=language)
    text = page.path.read_text(encoding="utf-8")
    assert "data:image/png" not in text, "plots are vectors"
    assert f'lang="{"zh-CN" if language == "zh" else "en"}"' in text
    opened = open_page(page.path, width=width, dark=dark, alone=True)
    axe(opened)
    assert opened.locator("svg.plot[aria-label]").count() >= 2


def test_the_gallery_has_a_filter_and_shows_what_decided(runs, open_page):
    page = open_page(restune.report(runs / "image").path)
    cards = page.locator(".gallery li")
    assert cards.count() >= 10
    page.select_option("#filter-why", "mistake")
    shown = page.locator(".gallery li:visible")
    assert 0 < shown.count() < cards.count()
    assert all("mistake" in text for text in shown.locator(".why").all_inner_texts())
    assert page.locator("#filter-count").inner_text() == f"{shown.count()} shown"
    label = page.locator("#filter-class option").nth(1).inner_text()
    page.select_option("#filter-class", label)
    assert all(label in text for text in page.locator(".gallery li:visible").all_inner_texts())
    page.select_option("#filter-why", "")
    page.select_option("#filter-class", "")
    assert page.locator("img.plain:visible").count() == cards.count()
    assert page.locator("img.overlay:visible").count() == 0
    page.locator("#filter-overlay").focus()
    page.keyboard.press("Space")
    assert page.locator("img.overlay:visible").count() == cards.count()
    assert page.locator("img.plain:visible").count() == 0


def test_printing_shows_closed_parts(runs, open_page):
    page = open_page(restune.report(runs / "image").path)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert page.locator("select:visible").count() == 0


def test_differences_are_those_of_the_saved_predictions(runs, run, tmp_path):
    answer = run("report", runs / "longer", runs / "image", "--out", tmp_path / "c.html", "--json")
    found = json.loads(answer.stdout)["comparison"]
    scores = [np.load(runs / name / "evaluation" / "test.npz") for name in ("longer", "image")]
    assert scores[0]["ids"].tolist() == scores[1]["ids"].tolist()
    right = [score["logits"].argmax(axis=1) == score["targets"] for score in scores]
    (gap,) = found["differences"]
    assert gap["how"] == "paired"
    assert (gap["this"], gap["other"]) == ("image", "longer")
    assert gap["difference"] == pytest.approx(right[1].mean() - right[0].mean())
    assert gap["only_this"] == int((right[1] & ~right[0]).sum())
    assert found["settings"]["epochs"] == [3, 2]
    assert found["split"] == "test"


def test_seeds_of_one_recipe_are_one_group(runs, run):
    written = json.loads(run("report", runs / "seeds", "--json").stdout)
    (group,) = written["comparison"]["groups"]
    saved = json.loads((runs / "seeds" / "seeds.json").read_text())["test"]["accuracy"]
    assert group["accuracy"]["values"] == saved["values"]
    assert (group["accuracy"]["mean"], group["accuracy"]["std"]) == pytest.approx((saved["mean"], saved["std"]))
    assert written["report"] == str(runs / "seeds" / "report.html")
    apart = [str(runs / "seeds" / name) for name in ("seed-0", "seed-1")]
    compared = restune.report(apart, out=runs / "apart.html").comparison
    assert [len(group.runs) for group in compared.groups] == [2]


def test_runs_on_other_items_are_compared_unpaired(runs):
    compared = restune.report([runs / "text", runs / "series"], out=runs / "other.html").comparison
    (gap,) = compared.gaps
    assert gap.how == "unpaired"
    assert "measured on items of its own" in (runs / "other.html").read_text()


def test_a_run_of_an_earlier_version_is_drawn_from_what_it_has(runs, tmp_path, run):
    old = shutil.copytree(runs / "image", tmp_path / "old")
    for name in ("evaluation/gallery.json", "README.md", "report.html", "run.json", "timings.jsonl"):
        (old / name).unlink()
    page = restune.report(old)
    assert page.path.exists()
    assert "data:image/webp" not in page.path.read_text()
    assert 'class="why"' in page.path.read_text(), "its mistakes are listed without pictures"
    (old / "evaluation" / "gallery.json").write_text('{"split": "test", "items": {"x": {"image": "http://x/y.png"}}}')
    assert "http://x" not in restune.report(old).path.read_text()
    answer = run("report", tmp_path)
    assert answer.returncode == 2
    assert "this folder does not contain a finished run" in answer.stderr


def test_the_model_card_is_one_that_hugging_face_reads(runs):
    from huggingface_hub import ModelCard

    card = ModelCard.load(runs / "image" / "README.md")
    result = json.loads((runs / "image" / "result.json").read_text())
    assert card.data.library_name == "restune"
    assert card.data.pipeline_tag == "image-classification"
    scores = {(one.dataset_split, one.metric_name): one.metric_value for one in card.data.eval_results}
    assert scores["test", "accuracy"] == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    assert scores["val", "F1 (macro)"] == pytest.approx(result["val"]["macro_f1"], abs=1e-6)
    assert str(runs) not in card.content, "no path of this machine"
    assert "\\<i\\>c" in card.content


def test_a_card_that_was_edited_is_not_replaced(runs, tmp_path, capsys):
    copy = shutil.copytree(runs / "image", tmp_path / "copy")
    card = copy / "README.md"
    written = card.read_text()
    restune.report(copy, lang="zh")
    assert "效果如何" in card.read_text(), "a card as it was written is replaced"
    restune.report(copy)
    assert card.read_text() == written
    card.write_text(written.replace("## Limits", "Photos of my garden.\n\n## Limits"))
    restune.report(copy)
    assert "my garden" in card.read_text()
    assert "README.md was edited by hand" in capsys.readouterr().err


def test_a_damaged_file_is_an_error_that_names_the_run(runs, tmp_path, run):
    for name, content in (("metrics.jsonl", "{"), ("recipe.yaml", "# x\na: [1"), ("result.json", '{"verb": "cook"}')):
        copy = shutil.copytree(runs / "image", tmp_path / name)
        (copy / name).write_text(content)
        answer = run("report", copy)
        assert answer.returncode == 2, answer.stderr
        assert "a file of this run is damaged" in answer.stderr
        assert str(copy) in answer.stderr
