"""Items of equal content stay in one split; conflicting and shared ones are named; other splits do not change."""

from __future__ import annotations

import csv
import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import restune
from restune.data.dataset import ArrayLocation, Dataset, Item
from restune.data.duplicates import group_copies, name_copies
from restune.data.sources import open_dataset
from restune.data.splits import Splits, split_dataset, splits_from_text, splits_text

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 1, "batch_size": 8, "threads": 1}


def dataset(count, classes=2, split=None):
    array = np.zeros((1, 4, 4), np.uint8)
    items = tuple(
        Item(id=f"{number:03d}", location=ArrayLocation(array, 0), target=number % classes, split=split)
        for number in range(count)
    )
    return Dataset(items=items, classes=tuple("abc"[:classes]), source="here")


def drawn(data, seed=0):
    return split_dataset(data, val=0.2, test=0.2, unreadable={}, seed=seed)


def test_without_copies_nothing_changes(capsys):
    data = dataset(60)
    assert group_copies(data, {item.id: item.id for item in data.items}) is data
    splits = drawn(data)
    assert name_copies(splits, {item.id: item.id for item in data.items}) is splits
    assert capsys.readouterr().err == ""
    # The draw of a data set without copies, by the ids in val and in test.
    ids = "|".join(",".join(side.ids()) for side in (splits.val, splits.test))
    assert hashlib.sha256(ids.encode()).hexdigest()[:16] == "134cab0247da37c8"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pairs", [1, 10, 25])
def test_copies_stay_together(seed, pairs):
    data = dataset(60)
    distinct = 60 - 2 * pairs
    contents = {f"{number:03d}": str(number % distinct) for number in range(60)}
    splits = drawn(group_copies(data, contents), seed)
    sides = [{contents[name] for name in side.ids()} for side in (splits.train, splits.val, splits.test)]
    assert all(not (one & other) for one in sides for other in sides if one is not other)
    assert all(count for side in (splits.val, splits.test) for count in side.class_counts().values())
    assert 6 <= len(splits.val) <= 18


def test_groups_of_the_data_are_merged_with_copies():
    data = dataset(12)
    items = tuple(replace(item, group=f"g{int(item.id) // 4}") for item in data.items)
    grouped = group_copies(replace(data, items=items), {"003": "0a", "004": "0a", "009": "0b"})
    names = [item.group for item in grouped.items]
    assert len(set(names[:8])) == 1
    assert len(set(names)) == 2


def test_conflicts_and_shared_items_are_named(capsys):
    data = dataset(10)
    splits = Splits(
        train=Dataset(items=data.items[:6], classes=data.classes, source="here"),
        val=Dataset(items=data.items[6:8], classes=data.classes, source="here"),
        test=Dataset(items=data.items[8:], classes=data.classes, source="here"),
        left_out={},
    )
    contents = {"000": "0a", "001": "0a", "002": "0b", "008": "0b", "009": "0c"}
    named = name_copies(splits, contents)
    said = capsys.readouterr().err
    assert "2 items have the content of an item of another class: 000 ('a') = 001 ('b')" in said
    assert "1 of the 2 test items have the content of training items" in said
    assert "008 = 002" in said
    assert "validation" not in said
    rows = {row["item"]: row for row in csv.DictReader(splits_text(named).splitlines())}
    assert rows["000"]["reason"] == "same content as 001, which is labelled 'b'"
    assert rows["008"] == {"item": "008", "split": "test", "reason": "same content as 002 (train)"}
    assert rows["002"]["reason"] == ""
    assert splits_from_text(splits_text(named), data, None, None, "here").notes == named.notes


@pytest.fixture
def photos_with_copies(tmp_path, write_noise):
    folder = write_noise(tmp_path / "data", bright=(120, 20), dark=(0, 20))
    for name in ("bright", "dark"):
        for number in range(5):
            shutil.copy(folder / name / f"{number:03d}.png", folder / name / f"copy-{number}.png")
    shutil.copy(folder / "dark" / "010.png", folder / "bright" / "wrong.png")
    return folder


def sides(run):
    with (run.out / "split.csv").open(newline="") as file:
        return {row["item"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("verb", ["train", "finetune"])
def test_a_run_keeps_copies_together(photos_with_copies, tmp_path, capsys, verb):
    run = restune.train(photos_with_copies, out=tmp_path / "run", val=0.4, **SMALL)
    if verb == "finetune":
        run = restune.finetune(photos_with_copies, weights=run.out, freeze="all", val=0.4, out=tmp_path / "tuned")
    said = capsys.readouterr().err
    assert "22 items repeat the content of another (11 contents): each such group goes into one split" in said
    assert "2 items have the content of an item of another class: bright/wrong.png ('bright') = dark/010.png" in said
    rows = sides(run)
    for name in ("bright", "dark"):
        for number in range(5):
            assert rows[f"{name}/{number:03d}.png"]["split"] == rows[f"{name}/copy-{number}.png"]["split"]
    assert rows["bright/wrong.png"]["split"] == rows["dark/010.png"]["split"]
    assert rows["dark/010.png"]["reason"] == "same content as bright/wrong.png, which is labelled 'bright'"


def test_test_data_that_contains_training_items_is_named(photos_with_copies, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(photos_with_copies, other)
    for path in list(other.glob("*/0*.png"))[::2]:
        Image.new("RGB", (18, 18), tuple(hashlib.sha256(str(path).encode()).digest()[:3])).save(path)
    run = restune.train(photos_with_copies, out=tmp_path / "run", val=0, test=str(other), **SMALL)
    total = run.result["test"]["n"]
    shared = [row for row in sides(run).values() if row["split"] == "test" and row["reason"].endswith("(train)")]
    assert f"of the {total} test items have the content of training items" in capsys.readouterr().err
    assert 20 <= len(shared) <= total


def test_series_and_sounds_are_compared_too(tmp_path, capsys):
    random = np.random.default_rng(0)
    series = random.normal(size=(40, 30)).round(4)
    series[20:24] = series[0:4]
    lines = [",".join([*map(str, row), "ab"[number % 2]]) for number, row in enumerate(series)]
    (tmp_path / "series.csv").write_text("\n".join([",".join([*(f"t{i}" for i in range(30)), "label"]), *lines]))
    run = restune.train(tmp_path / "series.csv", out=tmp_path / "run", epochs=1, batch_size=8)
    assert "8 items repeat the content of another (4 contents)" in capsys.readouterr().err
    rows = list(sides(run).values())
    by_id = sorted(rows, key=lambda row: int(row["item"]))
    assert [by_id[n]["split"] for n in range(4)] == [by_id[n + 20]["split"] for n in range(4)]


def frames(folder, name, clips=2, count=6, like=True):
    random = np.random.default_rng(0)
    for label in ("bad", "good"):
        for clip in range(clips):
            place = folder / label / f"clip{clip}"
            place.mkdir(parents=True)
            base = random.integers(0, 255, (24, 24, 3), np.uint8)
            for number in range(1, count + 1):
                pixels = base if like else random.integers(0, 255, (24, 24, 3), np.uint8)
                Image.fromarray(np.clip(pixels.astype(int) + number, 0, 255).astype(np.uint8)).save(
                    place / name.format(number)
                )
    return folder


@pytest.mark.parametrize("below", [".", "train", "wrapper"])
@pytest.mark.parametrize("name", ["frame_{:04d}.jpg", "{:05d}.png", "img_{}.jpg"])
def test_folders_of_frames_ask_for_their_kind(tmp_path, name, below):
    data = frames(tmp_path / "data" / below, name).parent if below != "." else frames(tmp_path / "data", name)
    with pytest.raises(restune.UserError, match="look like the frames of videos") as raised:
        open_dataset(data)
    assert "--kind video" in raised.value.fix
    assert "--kind image" in raised.value.fix
    assert open_dataset(data, restune.DataOptions(kind="image")).kind == "image"
    assert len(open_dataset(data, restune.DataOptions(kind="video"))) == 4


def test_numbered_photos_in_subfolders_are_images(tmp_path):
    assert open_dataset(frames(tmp_path / "photos", "IMG_{:04d}.jpg", like=False)).kind == "image"
    data = frames(tmp_path / "gaps", "frame_{:04d}.jpg")
    for path in data.glob("*/*/frame_0003.jpg"):
        path.unlink()
    assert open_dataset(data).kind == "image"


def test_plain_class_folders_are_images(tmp_path):
    data = frames(tmp_path / "data", "frame_{:04d}.jpg", clips=1)
    for path in data.glob("*/clip0/*.jpg"):
        path.rename(path.parent.parent / path.name)
    for path in data.glob("*/clip0"):
        path.rmdir()
    assert open_dataset(data).kind == "image"


def test_real_frames_ask_for_their_kind(real_data):
    with pytest.raises(restune.UserError, match="look like the frames of videos"):
        open_dataset(real_data / "video" / "frames")


@pytest.mark.parametrize("name", ["hymenoptera", "sign-digits/Dataset"])
def test_real_photos_are_images(real_data, name):
    assert open_dataset(real_data / name).kind == "image"


def test_a_few_contents_are_divided_all_the_same(tmp_path, run):
    for name, value in (("dark", 0), ("bright", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(tmp_path / "data" / name / f"{number}.png")
    done = run("train", tmp_path / "data", "--model", "resnet8", "--epochs", "1", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "the 16 items have only 2 different contents" in done.stderr
