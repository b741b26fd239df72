"""Files that are not read are counted and said; a class of nothing else is an error that names it."""

from __future__ import annotations

import csv
import shutil
import tarfile

import pytest

import restune
from restune.data.sources import open_dataset
from restune.data.sources.clips import VIDEO_SUFFIXES, is_video_name
from restune.data.sources.folder import is_image_name
from restune.data.splits import read_splits, split_dataset, write_splits


def scatter(folder, suffix, count):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"raw{number}{suffix}").write_bytes(b"what this is nobody knows")


def counts(dataset):
    return {(one.place, one.suffix): one.count for one in dataset.not_taken}


def test_files_that_are_not_read_are_counted_by_suffix_and_class(photos, capsys):
    scatter(photos / "red", ".CR2", 4)
    scatter(photos / "blue" / "deeper", ".xyz", 2)
    scatter(photos / "blue", ".xyz", 1)
    scatter(photos, ".md", 1)
    dataset = open_dataset(photos)
    assert counts(dataset) == {("red", ".cr2"): 4, ("blue", ".xyz"): 3, ("", ".md"): 1}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "warning: 8 files not read: 4 .cr2 in red, 3 .xyz in blue" in said


def test_what_lies_beside_items_is_no_reason_to_warn(photos, capsys):
    scatter(photos / "red", ".txt", 2)
    scatter(photos / "annotations", ".xml", 3)  # a folder of annotations is no class
    assert open_dataset(photos).classes == ("blue", "red")
    assert capsys.readouterr().err == "5 files not read: 3 .xml in annotations, 2 .txt in red\n"


def test_junk_of_the_system_is_passed_over_quietly(photos, capsys):
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0.jpg", "ehthumbs.db"):
        (photos / "red" / name).write_bytes(b"x")
    scatter(photos / "__MACOSX" / "red", ".xyz", 2)
    assert open_dataset(photos).not_taken == ()
    assert capsys.readouterr().err == ""


def test_a_class_that_would_vanish_is_an_error(photos, tmp_path):
    scatter(photos / "green", ".xcf", 3)
    scatter(photos / "white", ".dng", 2)
    with pytest.raises(restune.UserError, match=r"'green' \(3 .xcf\); 'white' \(2 .dng\)"):
        open_dataset(photos)
    shutil.rmtree(photos / "white")
    shutil.rmtree(photos / "green")
    for side in ("train", "val"):
        shutil.copytree(photos, tmp_path / "data" / side)
    scatter(tmp_path / "data" / "val" / "green", ".svg", 2)
    with pytest.raises(restune.UserError, match=r"'val/green' \(2 .svg\)"):
        open_dataset(tmp_path / "data")


def test_classes_of_texts_and_of_sounds_that_would_vanish(tmp_path):
    for kind, suffix, other in (("text", ".txt", ".md"), ("signal", ".wav", ".aup")):
        for name in ("calm", "loud"):
            scatter(tmp_path / kind / name, suffix, 3)
        scatter(tmp_path / kind / "gone", other, 2)
        with pytest.raises(restune.UserError, match=f"'gone' \\(2 \\{other}\\)"):
            open_dataset(tmp_path / kind)


def test_arrays_in_a_class_folder_are_no_side_matter(photos):
    scatter(photos / "green", ".npy", 3)
    with pytest.raises(restune.UserError, match=r"'green' \(3 .npy\)"):
        open_dataset(photos)


def test_an_empty_class_folder_is_said(photos, capsys):
    (photos / "green").mkdir()
    (photos / "white").mkdir()
    (photos / "white" / ".DS_Store").write_bytes(b"x")
    (photos / "red" / "empty").mkdir()
    assert open_dataset(photos).classes == ("blue", "red")
    assert capsys.readouterr().err == "warning: empty folders, not a class: 'green', 'white'\n"


def test_nothing_that_is_read(tmp_path):
    scatter(tmp_path / "data" / "cat", ".psd", 2)
    scatter(tmp_path / "data" / "dog", ".psd", 3)
    with pytest.raises(restune.UserError, match=r"no images here; there are 5 .psd"):
        open_dataset(tmp_path / "data")


def test_in_an_archive(photos, tmp_path):
    scatter(photos / "red", ".xyz", 2)
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        tar.add(photos, arcname="photos")
    assert counts(open_dataset(tmp_path / "data.tar")) == {("red", ".xyz"): 2}
    scatter(photos / "green", ".xyz", 2)
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        tar.add(photos, arcname="photos")
    with pytest.raises(restune.UserError, match="'green'"):
        open_dataset(tmp_path / "data.tar")


def test_split_csv_says_it_and_is_read_back(photos, tmp_path):
    scatter(photos / "red", ".xyz", 2)
    dataset = open_dataset(photos)
    splits = split_dataset(dataset, val=0.4, test=None, unreadable={}, seed=0, min_class_items=1)
    write_splits(tmp_path / "split.csv", splits)
    rows = list(csv.DictReader((tmp_path / "split.csv").open()))
    assert rows[-1] == {"item": "red/*.xyz", "split": "not taken", "reason": "2 files .xyz, not read"}
    assert len(rows) == 7
    again = read_splits(tmp_path / "split.csv", dataset, None, None)
    assert again.counts() == splits.counts()
    assert again.left_out == {}


def test_photos_of_phones_are_looked_for():
    assert all(is_image_name(f"IMG_1{suffix}") for suffix in (".HEIC", ".heif", ".avif", ".JPE", ".jfif"))


def test_every_container_of_videos_is_looked_for(tmp_path):
    names = [
        "3gp",
        "3g2",
        "m4v",
        "flv",
        "wmv",
        "asf",
        "mts",
        "m2ts",
        "ogv",
        "vob",
        "mpg",
        "mpeg",
        "webm",
        "mkv",
        "mov",
        "avi",
        "mp4",
    ]
    assert all(is_video_name(f"clip.{name}") for name in names)
    for number, suffix in enumerate(sorted(VIDEO_SUFFIXES - {".gif"})):
        scatter(tmp_path / "data" / f"class{number % 2}", suffix, 1)
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.kind, len(dataset)) == ("video", len(VIDEO_SUFFIXES) - 1)


def test_a_transport_stream_is_told_from_series_of_the_same_suffix(tmp_path):
    packet = b"\x47" + bytes(187)
    for name in ("run", "jump"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "0.ts").write_bytes(packet * 10)
    (tmp_path / "data" / "run" / "series.ts").write_text("@data\n1,2,3:a\n")
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.kind, [item.id for item in dataset.items]) == ("video", ["jump/0.ts", "run/0.ts"])
    assert counts(dataset) == {("run", ".ts"): 1}


@pytest.mark.parametrize("inner", ["", "images", "test", "unknown"])
def test_a_test_folder_without_classes_has_no_labels(photos, tmp_path, capsys, inner):
    shutil.copytree(photos, tmp_path / "data" / "train")
    folder = tmp_path / "data" / "test" / inner
    folder.mkdir(parents=True)
    for number in range(4):
        shutil.copy(photos / "red" / "0.jpg", folder / f"{number}.jpg")
    dataset = open_dataset(tmp_path / "data")
    assert dataset.classes == ("blue", "red")
    assert dataset.splits() == {"train": 6}
    assert counts(dataset) == {("test", ".jpg"): 4}
    said = capsys.readouterr().err
    assert "4 files in test/ not used" in said
    assert "restune predict" in said


def test_a_flat_test_folder_beside_class_folders_is_no_class(photos):
    shutil.copytree(photos / "red", photos / "test")
    dataset = open_dataset(photos)
    assert dataset.classes == ("blue", "red")
    assert [one.has_no_label for one in dataset.not_taken] == [True]


def test_a_test_folder_with_classes_stays_one(photos, tmp_path):
    for side in ("train", "test"):
        shutil.copytree(photos, tmp_path / "data" / side)
    assert open_dataset(tmp_path / "data").splits() == {"train": 6, "test": 6}


def test_images_beside_their_table(photos, tmp_path):
    (photos / "red" / "labels.csv").write_text("file,label\n")
    with pytest.raises(restune.UserError, match=r"if labels\.csv holds their labels"):
        open_dataset(photos / "red")
