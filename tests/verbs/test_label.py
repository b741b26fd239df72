"""restune label: from a folder with few labels, or a run, to proposals, what labels would bring, and the files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

import restune
from restune.data.dataset import DataOptions
from restune.runs.item_features import item_features
from restune.runs.label_pool import open_pool


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Sixty photos in one folder, four of them copies, a file that is no image, and labels of twenty-four."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(56):
        least = 120 * (number % 2)
        pixels = random.integers(least, least + 130, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number:02d}.png")
    for number in range(4):
        (folder / "photos" / f"copy{number}.png").write_bytes((folder / "photos" / f"{number:02d}.png").read_bytes())
    (folder / "photos" / "broken.png").write_bytes(b"not an image")
    rows = ["path,label", *(f"{number:02d}.png,{'bright' if number % 2 else 'dark'}" for number in range(24))]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on class folders with all its layers trained."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(1)
    for name, least in (("bright", 120), ("dark", 0)):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(least, least + 130, (18, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "data" / name / f"{number}.png")
    run = restune.train(
        folder / "data", model="resnet8", image_size=16, epochs=2, batch_size=8, out=folder / "run", test=0.2, workers=0
    )
    return folder / "data", run.out


def test_labels_of_a_table_give_proposals_a_curve_and_the_files(shop, run, capsys):
    out = shop / "out"
    done = run("label", shop / "photos", "--labels", shop / "labels.csv", "--next", 5, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "24 labels from labels.csv; 37 images without one" in done.stderr
    assert "skipped 1 unreadable item" in done.stderr
    assert "5 more labels: +" in done.stdout or "5 more labels: -" in done.stdout
    assert f"5 items to label next: open {out}/label.html" in done.stdout
    command = f"restune finetune labels.csv --root {shop / 'photos'}"
    assert command in done.stdout
    with (out / "proposed.csv").open(newline="") as file:
        proposed = list(csv.DictReader(file))
    assert len(proposed) == 5
    assert not any(row["item"].startswith(("copy", "broken")) or row["item"] < "24" for row in proposed)
    stored = json.loads((out / "label.json").read_text())
    assert stored["curve"]["labels"] == 24
    assert [one["more"] for one in stored["curve"]["gains"]] == [5, 20]
    assert all(one["low"] <= one["expected"] <= one["high"] for one in stored["curve"]["gains"])
    as_json = run("label", shop / "photos", "--labels", shop / "labels.csv", "--next", 5, "--out", out, "--json")
    assert json.loads(as_json.stdout.splitlines()[-1]) == stored


def test_without_any_label_typical_photos_are_proposed(shop, tmp_path):
    made = restune.label(shop / "photos", classes=["bright", "dark"], next=6, out=tmp_path / "out")
    assert made.classes == ("bright", "dark")
    assert (made.curve, made.judge, made.labelled) == (None, "", 0)
    assert all(one.suggestion == "" for one in made.proposed)
    bright = [int(one.item.removeprefix("copy")[:-4]) % 2 for one in made.proposed]
    assert 0 < sum(bright) < 6, "of both kinds"
    assert "--classes bright,dark" in made.commands[1]


def test_without_a_model_images_are_told_apart_by_the_bundled_weights(shop):
    dataset = open_pool(shop / "photos", DataOptions(), labels=shop / "labels.csv").dataset
    found = item_features(dataset, or_bundled=True)
    assert found.name == "embeddings of wide_resnet8"
    assert "untrained" in item_features(dataset).name


@pytest.mark.usefixtures("nothing_bundled")
def test_without_bundled_weights_features_need_no_training(shop):
    dataset = open_pool(shop / "photos", DataOptions(), labels=shop / "labels.csv").dataset
    assert "untrained" in item_features(dataset, or_bundled=True).name


def test_a_run_brings_its_labels_and_its_own_head(trained, shop, tmp_path, capsys):
    data, folder = trained
    made = restune.label(shop / "photos", model=folder, next=4, out=tmp_path / "out")
    split = json.loads((folder / "split.json").read_text())
    assert made.labelled == len(split["splits"]["train"]["ids"]) + len(split["splits"]["val"]["ids"])
    assert made.judge == "own"
    assert made.curve is None, "layers that were trained on these labels know them by heart"
    assert "were trained on these labels" in capsys.readouterr().err
    assert made.commands[0].endswith(f"--weights {folder}")
    page = (made.out / "label.html").read_text()
    tests = split["splits"]["test"]["ids"]
    assert tests
    assert f"{data}/{split['splits']['train']['ids'][0]}" in page
    assert not any(f"{data}/{name}" in page for name in tests), "test items stay out of the labels to train with"


def test_test_items_of_the_run_are_not_proposed(trained, tmp_path):
    data, folder = trained
    (data / "new.png").write_bytes((data / "dark" / "0.png").read_bytes()[:-1] + b"\0")
    try:
        made = restune.label(data, model=folder, next=50, out=tmp_path / "out")
    finally:
        (data / "new.png").unlink()
    assert [one.item for one in made.proposed] == ["new.png"]


def test_wrong_requests_are_refused_with_one_message(shop, run, tmp_path):
    photos = shop / "photos"
    (tmp_path / "file").write_text("")
    for words, message in [
        ([photos, "--labels", "nothing.csv"], "there is no such file"),
        ([photos, "--next", 5000], "5000 items cannot be proposed at once"),
        ([tmp_path / "nowhere"], "there is no such data"),
        ([photos, "--model", "resnet18"], "resnet18 is a network without weights"),
        ([photos, "--out", tmp_path / "file"], "this is a file, not a folder"),
    ]:
        done = run("label", *words)
        assert done.returncode == 2
        assert done.stderr.count("error: ") == 1
        assert message in done.stderr, done.stderr


def test_sounds_can_be_heard_and_series_are_decided_on(tmp_path):
    from scipy.io import wavfile

    (tmp_path / "sounds").mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        wavfile.write(tmp_path / "sounds" / f"{number}.wav", 8000, random.integers(-99, 99, 800).astype(np.int16))
    made = restune.label(tmp_path / "sounds", classes=["hum", "hiss"], next=2, out=tmp_path / "out")
    assert (made.out / "label.html").read_text().count("data:audio/wav;base64,") == 2
    assert made.commands[0] == f"restune train labels.csv --root {tmp_path / 'sounds'}"
    rows = ["label," + ",".join(f"v{step}" for step in range(12))]
    rows += [f"{label}," + ",".join(f"{value:.3f}" for value in random.random(12)) for label in ["up", "down", ""] * 4]
    (tmp_path / "series.csv").write_text("\n".join(rows) + "\n")
    decided = restune.label(tmp_path / "series.csv", next=3, out=tmp_path / "again", data_options=DataOptions())
    assert (decided.labelled, len(decided.proposed), decided.classes) == (8, 3, ("down", "up"))
    assert "--decisions decisions.csv" in decided.commands[0]
