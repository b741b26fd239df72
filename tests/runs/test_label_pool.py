"""The items to label: which of DATA have a label, from which source, and which table the new labels go into."""

from __future__ import annotations

import shutil

import pytest

from restune.core.errors import UserError
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset
from restune.runs.label_pool import open_pool


@pytest.fixture
def photos(tmp_path, write_noise):
    """Twelve files without class folders, in two folders by date and beside them."""
    folder = write_noise(tmp_path / "photos", **{"2023": (120, 5), "2024": (0, 5), "rest": (60, 2)})
    for file in (folder / "rest").iterdir():
        file.rename(folder / file.name)
    (folder / "rest").rmdir()
    return folder


def labels_of(pool):
    return {
        item.id: pool.dataset.classes[item.target] for item in pool.dataset.items if item.target >= 0
    }  # fmt: skip


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_table_names_the_labels_of_a_folder(photos, tmp_path):
    table = write(tmp_path / "labels.csv", "path,label", "2023/000.png,cat", "2024/001.png,dog", "000.png,cat")
    pool = open_pool(photos, DataOptions(), labels=table)
    assert labels_of(pool) == {"2023/000.png": "cat", "2024/001.png": "dog", "000.png": "cat"}
    assert len(pool.dataset) == 12, "folders by date are not classes"
    assert (pool.form, pool.root, pool.is_open) == ("path", photos, True)


def test_class_folders_are_labels_and_files_beside_them_have_none(photos, tmp_path):
    shutil.move(photos / "2023" / "000.png", photos / "unlabelled.png")
    (photos / "Unlabelled").mkdir()
    shutil.move(photos / "2023" / "001.png", photos / "Unlabelled" / "a.png")
    pool = open_pool(photos, DataOptions())
    assert sorted(set(labels_of(pool).values())) == ["2023", "2024"]
    unlabelled = [item.id for item in pool.dataset.items if item.target < 0]
    assert unlabelled == ["000.png", "001.png", "Unlabelled/a.png", "unlabelled.png"]
    named = open_pool(photos, DataOptions(), classes=["2023", "cat"])
    assert set(labels_of(named).values()) == {"2023"}
    assert named.dataset.classes == ("2023", "cat")


def test_a_label_of_another_folder_is_added_with_its_whole_path(photos, tmp_path, write_noise):
    other = write_noise(tmp_path / "other", cat=(0, 1))
    table = write(tmp_path / "labels.csv", "path,label", f"{other}/cat/000.png,cat", "000.png,dog")
    pool = open_pool(photos, DataOptions(), labels=table)
    assert labels_of(pool) == {f"{other}/cat/000.png": "cat", "000.png": "dog"}
    merged = write(
        tmp_path / "merged.csv", "path,label", *(f"{name},{label}" for name, label in labels_of(pool).items())
    )
    read = open_dataset(merged, DataOptions(root=pool.root))
    assert [item.location.read()[:4] for item in read.items] == [b"\x89PNG"] * 2


def test_rows_of_a_table_without_a_label_are_decided_on(photos, tmp_path):
    table = write(tmp_path / "t.csv", "file,label,patient", "2023/000.png,cat,1", "2024/001.png,dog,2", "000.png,,3")
    pool = open_pool(table, DataOptions(root=photos))
    assert (pool.form, pool.is_open) == ("item", False)
    assert [item.target for item in pool.dataset.items] == [0, 1, -1]
    decisions = write(tmp_path / "decisions.csv", "item,decision,label", "000.png,relabel,dog", "2023/000.png,drop,")
    with pytest.raises(UserError, match="every item of this data has a label"):
        open_pool(table, DataOptions(root=photos), labels=decisions)
    with pytest.raises(UserError, match="'bird' is not a class of the data"):
        open_pool(table, DataOptions(root=photos), classes=["bird"])


@pytest.mark.parametrize("header", ["text", "text,label"])
def test_a_table_of_texts_without_labels(tmp_path, header):
    comma = "," if "," in header else ""
    texts = [f"the {number}th sentence of a table of texts" for number in range(8)]
    table = write(tmp_path / "texts.csv", header, *(text + comma for text in texts))
    pool = open_pool(table, DataOptions(kind="text"))
    assert (pool.form, len(pool.dataset), labels_of(pool)) == ("text", 8, {})
    known = write(tmp_path / "known.csv", "text,label", f"{texts[3]},good", f"{texts[5]},bad", "another one here,bad")
    pool = open_pool(table, DataOptions(kind="text"), labels=known)
    assert sorted(labels_of(pool).values()) == ["bad", "bad", "good"]
    assert len(pool.dataset) == 9


def test_what_cannot_be_labelled_is_refused(photos, tmp_path, write_noise):
    whole = write_noise(tmp_path / "whole", cat=(0, 2), dog=(120, 2))
    (tmp_path / "empty").mkdir()
    several = write(tmp_path / "m.csv", "path,label", "000.png,a|b", "001.png,b|c", "2023/000.png,a")
    for data, options, labels, message in [
        (whole, {}, None, "every item of this data has a label"),
        (tmp_path / "empty", {}, None, "there are no images here"),
        (photos, {}, several, "labels of multi-label data are not read"),
        (photos, {}, tmp_path / "missing.csv", "the labels cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            open_pool(data, DataOptions(**options), labels=labels)
