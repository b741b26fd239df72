"""Paths in tables that are not exactly those on disk: found and said, or the nearest is named."""

from __future__ import annotations

import shutil
import unicodedata

import pytest

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset


def opened(folder, names, head="path,label", **options):
    rows = [f"{name},{'ab'[number % 2]}" for number, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return open_dataset(folder / "table.csv", DataOptions(**options))


def read(dataset):
    return [
        item.location.path.relative_to(item.location.path.parents[1]).as_posix()
        for item in dataset.items
        if item.location.read()
    ]


def test_paths_as_they_are_take_no_second_name(photos):
    dataset = opened(photos, ["red/0.jpg", "./blue/1.jpg"])
    assert dataset.items.places.names is dataset.items.names
    assert read(dataset) == ["red/0.jpg", "blue/1.jpg"]


@pytest.mark.parametrize(
    ("names", "way"),
    [
        ([r"red\0.jpg", r"blue\1.jpg"], "backslashes"),
        ([r"C:\Users\eva\photos\red\0.jpg", r"C:\Users\eva\photos\blue\1.jpg"], "first folders"),
        (["/home/eva/work/red/0.jpg", "/home/eva/work/blue/1.jpg"], "first folders"),
        (["file:///mnt/x/red/0.jpg", "file:///mnt/x/blue/1.jpg"], "first folders"),
        (["red/0", "blue/1"], "suffix .jpg added"),
        (["RED/0.JPG", "Blue/1.jpeg".replace("jpeg", "JPG")], "letter case"),
        ([" red/0.jpg ", "photos/blue/1.jpg "], "first folders"),
        (["https://example.org/set/red/0.jpg", "https://example.org/set/blue/1.jpg"], "web addresses"),
    ],
)
def test_names_that_differ_are_found_and_said(photos, capsys, names, way):
    dataset = opened(photos, names)
    assert read(dataset) == ["red/0.jpg", "blue/1.jpg"]
    assert way in capsys.readouterr().err
    assert [item.id for item in dataset.items] == [name.strip() for name in names]


def test_ids_without_suffix_in_the_folder_of_the_table(photos, capsys):
    shutil.copytree(photos / "red", photos / "train")
    dataset = opened(photos / "..", ["0", "1", "2"], head="id,label", root=photos / "train")
    assert read(dataset) == ["train/0.jpg", "train/1.jpg", "train/2.jpg"]
    assert "paths from column 'id'" in capsys.readouterr().err


def test_images_in_a_folder_below(tmp_path, photos):
    (tmp_path / "set").mkdir()
    for number in range(3):
        (tmp_path / "set" / "train").mkdir(exist_ok=True)
        shutil.copy(photos / "red" / "0.jpg", tmp_path / "set" / "train" / f"x{number}.jpg")
    dataset = opened(tmp_path / "set", ["x0", "x1", "x2"], head="id,label")
    assert [item.location.path.name for item in dataset.items] == ["x0.jpg", "x1.jpg", "x2.jpg"]
    assert all(item.location.read() for item in dataset.items)


@pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_the_other_unicode_form(photos, capsys, table, disk):
    names = ["grün/é0.jpg", "plain.jpg", "grün/ñ1.jpg"]
    (photos / unicodedata.normalize(disk, "grün")).mkdir()
    for name in names:
        shutil.copy(photos / "red" / "0.jpg", photos / unicodedata.normalize(disk, name))
    dataset = opened(photos, [unicodedata.normalize(table, name) for name in names])
    assert all(item.location.read() for item in dataset.items)
    assert "Unicode" in capsys.readouterr().err


def test_names_that_mean_one_file_are_refused(photos):
    with pytest.raises(restune.UserError, match="both mean the file"):
        opened(photos, ["/a/red/0.jpg", "/b/red/0.jpg"])


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["red/00.jpg", "red/11.jpg"], "nearly matches"),
        (["red/0.png", "red/1.png"], "another suffix"),
        (["none/x.jpg", "none/y.jpg"], "--root"),
        (["https://example.org/x.jpg", "https://example.org/y.jpg"], "nothing is downloaded"),
    ],
)
def test_what_nearly_matches_a_missing_path_is_named(photos, capsys, names, advice):
    (photos / "red" / "000.jpg").write_bytes(b"x")
    opened(photos, names)
    said = capsys.readouterr().err
    assert "none of 2 files is there" in said
    assert advice in said


def test_some_missing_paths_are_counted(photos, capsys):
    dataset = opened(photos, [r"red\0.jpg", r"red\9.jpg", r"blue\2.jpg"])
    assert "1 of 3 files are not there" in capsys.readouterr().err
    assert [bool(item.location.path.exists()) for item in dataset.items] == [True, False, True]


def test_two_files_of_one_stem_are_not_guessed(photos, capsys):
    shutil.copy(photos / "red" / "0.jpg", photos / "red" / "0.png")
    opened(photos, ["red/0", "red/1"])
    said = capsys.readouterr().err
    assert "1 of 2 files are not there" in said
    assert "'0.jpg', '0.png'" in said


def test_a_missing_file_is_never_one_of_another_folder(photos, capsys):
    (photos / "red" / "2.jpg").rename(photos / "2.jpg")
    dataset = opened(photos, [r"red\0.jpg", r"red\2.jpg", r"green\1.jpg", r"blue\1.jpg"])
    assert "2 of 4 files are not there" in capsys.readouterr().err
    assert [item.location.path.exists() for item in dataset.items] == [True, False, False, True]


def test_an_id_in_two_folders_is_not_guessed(photos, capsys):
    opened(photos, ["0", "1"])
    said = capsys.readouterr().err
    assert "none of 2 files is there" in said
    assert "'blue/0.jpg', 'red/0.jpg'" in said
    assert "--root" in said
