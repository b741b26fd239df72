"""restune check: what it writes and prints, and its exit status."""

from __future__ import annotations

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

import restune
from restune.data.audit.findings import COLUMNS, Finding, read_findings, write_findings
from restune.data.sources import open_dataset


def test_the_command_writes_what_it_prints(run, write_noise, tmp_path):
    photos = write_noise(tmp_path / "photos", a=(0, 30), b=(120, 3))
    (photos / "a" / "photo.heif2").write_bytes(b"x")
    done = run("check", photos, "--no-labels", "--json", "--out", tmp_path / "out")
    printed = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, printed["items"], printed["serious"]) == (0, 33, True)
    assert printed["findings"] == {"not-taken": 1, "small-class": 1, "imbalance": 1}
    with (tmp_path / "out" / "check.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert (tuple(rows[0]), len(rows)) == (COLUMNS, 4)
    assert rows[1][1:3] == ["small-class", "serious"], "serious findings come first"
    assert ["a/*.heif2", "not-taken", "warning"] in [row[:3] for row in rows]


def test_strict_exits_with_3_after_writing(run, write_noise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fine, faulty = write_noise(tmp_path / "fine", a=(0, 25), b=(120, 25)), write_noise(tmp_path / "bad", a=(0, 25))
    write_noise(tmp_path / "bad2", b=(9, 3))
    (tmp_path / "bad2" / "b").rename(faulty / "b")
    assert run("check", fine, "--strict").returncode == 0
    assert run("check", faulty, "--strict").returncode == 3
    assert (tmp_path / "runs" / "check-002" / "check.csv").exists()
    with pytest.raises(restune.UserError, match="serious"):
        restune.check(faulty, strict=True)


def test_findings_survive_the_table(tmp_path):
    written = (
        Finding('a,b/\udcff "x".jpg', "duplicate", "warning", 1.0, "drop: same pixels as c.jpg"),
        Finding("", "imbalance", "note", 0.25, "look: 'a' has 3"),
    )
    write_findings(tmp_path / "check.csv", written)
    assert read_findings(tmp_path / "check.csv") == written
    (tmp_path / "check.csv").write_text("a,b\n1,2\n")
    with pytest.raises(restune.UserError, match="not a table of findings"):
        read_findings(tmp_path / "check.csv")


def scene(random, size=120):
    """A picture with structure at all scales, like no other."""
    noise = sum(
        np.kron(random.normal(0, 1, (side, side, 3)), np.ones((size // side, size // side, 1)))
        for side in (4, 8, 24, 60)
    )
    return Image.fromarray(np.clip(128 + 35 * noise, 0, 255).astype(np.uint8))


@pytest.fixture
def pictures(tmp_path):
    """Forty different pictures in two classes and two splits: ``train/cat/00.jpg``."""
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "data" / ("test" if number % 4 == 3 else "train") / ("cat", "dog")[number // 20]
        path.mkdir(parents=True, exist_ok=True)
        scene(random).save(path / f"{number:02d}.jpg", quality=90)
    return tmp_path / "data"


def found(report):
    return {(one.item, one.finding) for one in report.findings if one.item}


def test_different_pictures_are_not_copies(pictures, tmp_path):
    report = restune.check(pictures, out=tmp_path / "out", labels=False)
    assert found(report) == set()
    assert report.items == 40


CHANGES = {
    "re-encoded": lambda image: image,
    "smaller": lambda image: image.resize((70, 70)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "rotated 90": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "rotated 180": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "rotated 270": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "cut out": lambda image: image.crop((3, 7, 111, 115)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_as_leaks(pictures, tmp_path, change):
    with Image.open(pictures / "train/cat/04.jpg") as image:
        CHANGES[change](image).save(pictures / "test/cat/copy.jpg", quality=70)
    report = restune.check(pictures, out=tmp_path / "out", labels=False)
    assert found(report) == {("test/cat/copy.jpg", "near-duplicate"), ("test/cat/copy.jpg", "leak")}
    leak = next(one for one in report.findings if one.finding == "leak")
    assert (leak.severity, leak.action, leak.related) == ("serious", "drop", ("train/cat/04.jpg",))
    assert report.serious


def test_equal_pixels_in_other_files_and_with_other_labels(pictures, tmp_path):
    with Image.open(pictures / "train/cat/00.jpg") as image:
        image.save(pictures / "train/dog/same.png")  # other bytes, the same pixels
    report = restune.check(pictures, out=tmp_path / "out", labels=False)
    named = {(one.item, one.finding): one for one in report.findings if one.item}
    assert named["train/dog/same.png", "duplicate"].suggestion == "drop: equal to train/cat/00.jpg"
    conflict = named["train/cat/00.jpg", "conflicting-duplicate"]
    assert (conflict.severity, conflict.related) == ("serious", ("train/dog/same.png",))
    assert ("train/dog/same.png", "conflicting-duplicate") in named


def test_the_proposed_split_is_without_leaks_and_trains(pictures, tmp_path, run):
    shutil.copyfile(pictures / "train/cat/00.jpg", pictures / "test/cat/equal.jpg")
    with Image.open(pictures / "train/dog/20.jpg") as image:
        ImageOps.mirror(image).save(pictures / "test/dog/mirrored.jpg")
    (pictures / "train/dog/21.jpg").write_bytes(b"\xff\xd8\xff broken")
    restune.check(pictures, out=tmp_path / "out", labels=False)
    with (tmp_path / "out" / "split.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == 40, "without the equal copy and the unreadable file"
    assert not {"test/cat/equal.jpg", "train/dog/21.jpg"} & set(rows)
    assert rows["test/dog/mirrored.jpg"]["split"] == "train"
    assert rows["test/dog/mirrored.jpg"]["group"] == rows["train/dog/20.jpg"]["group"]
    done = run(
        "check",
        tmp_path / "out" / "split.csv",
        "--root",
        pictures,
        "--no-labels",
        "--json",
        "--strict",
        "--out",
        tmp_path / "2",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["findings"] == {"near-duplicate": 1}


def test_odd_images_are_named(pictures, tmp_path):
    random = np.random.default_rng(9)
    with Image.open(pictures / "train/cat/01.jpg") as image:
        sharp = image.convert("RGB")
    odd = {
        "dark": Image.fromarray((np.asarray(scene(random)) * 0.2).astype(np.uint8)),
        "light": Image.fromarray((250 + np.asarray(scene(random)) / 64).astype(np.uint8)),
        "blurry": scene(random).filter(ImageFilter.GaussianBlur(25)),
        "flat": Image.new("RGB", (120, 120), (120, 130, 140)),
        "odd-size": scene(random, 1200),
    }
    for name, image in odd.items():
        image.save(pictures / "train/cat" / f"{name}.jpg", quality=95)
    scene(random, 240).crop((0, 0, 60, 240)).save(pictures / "train/dog/narrow.jpg")
    scene(random).quantize(16).save(pictures / "train/dog/odd-format.gif")
    turned = sharp.getexif()
    turned[0x0112] = 6
    scene(random).save(pictures / "train/dog/orientation.jpg", exif=turned)
    names = found(restune.check(pictures, out=tmp_path / "out", labels=False))
    for name in odd:
        assert (f"train/cat/{name}.jpg", name) in names
    assert ("train/dog/narrow.jpg", "odd-size") in names
    assert ("train/dog/odd-format.gif", "odd-format") in names
    assert ("train/dog/orientation.jpg", "orientation") in names


def test_what_is_common_is_reported_once(tmp_path):
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "night" / label).mkdir(parents=True)
        for number in range(20):
            dark = (np.asarray(scene(random)) * 0.25).astype(np.uint8)
            Image.fromarray(dark).save(tmp_path / "night" / label / f"{number}.png")
    report = restune.check(tmp_path / "night", out=tmp_path / "out", labels=False)
    dark = [one for one in report.findings if one.finding == "dark"]
    assert [(one.item, one.severity, one.score) for one in dark] == [("", "note", 1.0)]


def test_a_property_that_predicts_the_label_is_named(tmp_path):
    random = np.random.default_rng(0)
    for label, gain in (("dog", 0.8), ("wolf", 1.25)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(40):
            bright = np.clip(np.asarray(scene(random)) * gain, 0, 255).astype(np.uint8)
            Image.fromarray(bright).save(tmp_path / "data" / label / f"{number}.jpg")
    report = restune.check(tmp_path / "data", out=tmp_path / "out", labels=False)
    linked = {one.details.split(" alone")[0]: one for one in report.findings if one.finding == "spurious-property"}
    assert linked["brightness"].severity == "warning"
    assert linked["brightness"].details.endswith("lowest for 'dog', highest for 'wolf'")
    assert not {"size", "shape", "file format"} & set(linked)


def test_random_labels_have_no_spurious_property(pictures, tmp_path):
    report = restune.check(pictures, out=tmp_path / "out", labels=False)
    assert "spurious-property" not in report.counts


def test_corrupt_files_are_named_with_their_reason(pictures, tmp_path):
    whole = (pictures / "train/cat/00.jpg").read_bytes()
    (pictures / "train/cat/00.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "train/cat/01.jpg").write_bytes(b"")
    report = restune.check(pictures, out=tmp_path / "out", labels=False)
    reasons = {one.item: one.suggestion for one in report.findings if one.finding == "unreadable"}
    assert set(reasons) == {"train/cat/00.jpg", "train/cat/01.jpg"}
    assert reasons["train/cat/01.jpg"] == "drop: the file is empty (0 bytes)"


def test_many_equal_files_give_one_finding_each(tmp_path):
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(2):
            scene(random).save(tmp_path / "data" / label / f"{number}.png")
            for copy in range(50):
                os.link(tmp_path / "data" / label / f"{number}.png", tmp_path / "data" / label / f"{number}-{copy}.png")
    report = restune.check(tmp_path / "data", out=tmp_path / "out", labels=False)
    assert report.counts["duplicate"] == 200
    assert all(len(one.related) == 1 for one in report.findings if one.finding == "duplicate")


def test_texts_and_other_data_for_the_test(tmp_path, run):
    question = "What is the capital of the country that lies between France and Portugal ?"
    train = [f"LOC Where is the river number {n} of the {n * n} largest ?" for n in range(30)]
    train += [f"NUM How many people of town {n * 7} are {n} years old ?" for n in range(30)]
    (tmp_path / "train.txt").write_text("\n".join([*train, f"LOC {question}", f"NUM {train[3][4:]}"]) + "\n")
    test = [
        "LOC where is  the river number 5 of the 25 largest ?",
        f"LOC {question.replace('country that', 'country, that')}",
    ]
    test += ["NUM Something else entirely , how much is it ?", "LOC Another question about a place on a map ?"]
    (tmp_path / "test.txt").write_text("\n".join(test) + "\n")
    done = run(
        "check",
        tmp_path / "train.txt",
        "--test",
        tmp_path / "test.txt",
        "--no-labels",
        "--out",
        tmp_path / "out",
        "--strict",
    )
    assert done.returncode == 3, done.stderr
    rows = [(one.item, one.finding, one.score) for one in read_findings(tmp_path / "out" / "check.csv")]
    leaks = {item: score for item, finding, score in rows if finding == "leak"}
    assert list(leaks) == ["test:1", "test:2"]
    assert leaks["test:1"] == 1.0
    assert 0.8 <= leaks["test:2"] < 1
    assert {item for item, finding, _ in rows if finding == "conflicting-duplicate"} >= {"04", "62"}


def test_series_that_are_equal_or_scaled(tmp_path):
    series = np.random.default_rng(0).normal(size=(40, 50)).cumsum(1)
    series[7], series[21] = series[3], 2.5 * series[8] + 4
    np.savez(tmp_path / "series.npz", x=series.astype(np.float32), y=np.arange(40) % 2)
    report = restune.check(
        tmp_path / "series.npz", out=tmp_path / "out", labels=False, data_options=restune.DataOptions(kind="signal")
    )
    kinds = {(one.finding, int(one.item), int(one.related[0])) for one in report.findings if one.related}
    assert kinds == {
        ("duplicate", 7, 3), ("near-duplicate", 21, 8),
        ("conflicting-duplicate", 21, 8), ("conflicting-duplicate", 8, 21),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "image", "values"])
def test_rows_without_a_label_are_named_and_dropped_or_relabelled(kind, run, write_noise, tmp_path):
    photos = write_noise(tmp_path / "photos", a=(0, 15), b=(120, 15))
    paths = [str(path.relative_to(photos)) for path in sorted(photos.glob("*/*.png"))]
    content = {
        "text": ("text", [f"a text, number {place}" for place in range(30)]),
        "image": ("path", paths),
        "values": ("v1,v2,v3,v4,v5,v6,v7,v8", [",".join(str(place * n % 31) for n in range(8)) for place in range(30)]),
    }
    column, rows = content[kind]
    rows = [f'"{row}"' if kind == "text" else row for row in rows]
    labels = ["" if place in (4, 9) else "ab"[place // 15] for place in range(30)]
    table = photos / "table.csv"
    table.write_text(f"{column},label\n" + "".join(f"{row},{label}\n" for row, label in zip(rows, labels, strict=True)))
    done = run("check", table, "--no-labels", "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    assert (printed["items"], printed["findings"]["missing-label"], printed["serious"]) == (30, 2, True)
    missing = [one.item for one in read_findings(tmp_path / "out" / "check.csv") if one.finding == "missing-label"]
    with pytest.raises(restune.UserError, match="has no label"):
        open_dataset(table)
    opened = open_dataset(table, restune.DataOptions(exclude=tmp_path / "out" / "check.csv"))
    assert opened.class_counts() == {"a": 13, "b": 15}
    assert set(opened.left_out) == set(missing)
    decisions = tmp_path / "decisions.csv"
    decisions.write_text(f"item,decision,label\n{missing[0]},relabel,b\n")
    with pytest.raises(restune.UserError, match="this item has no label"):
        open_dataset(table, restune.DataOptions(decisions=decisions))
    decisions.write_text(f"item,decision,label\n{missing[0]},relabel,b\n{missing[1]},drop,\n")
    assert open_dataset(table, restune.DataOptions(decisions=decisions)).class_counts() == {"a": 13, "b": 16}
