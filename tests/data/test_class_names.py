"""Names of classes: cleaned, ordered as numbers where they are numbers, one per item."""

from __future__ import annotations

import shutil
import tarfile
import unicodedata

import numpy as np
import pytest

import restune
from restune.data.class_names import class_order, clean_name
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset

NUMBERS = ["10", "9", "2", "0", "11", "1"]


def table(photos, rows, name="table.csv", head="file,label"):
    (photos / name).write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return photos / name


def numbered(photos, tmp_path):
    for name in NUMBERS:
        shutil.copytree(photos / "red", tmp_path / "numbers" / name)
    return tmp_path / "numbers"


def test_numbers_are_in_the_order_of_numbers_everywhere(photos, tmp_path):
    ordered = ("0", "1", "2", "9", "10", "11")
    folder = numbered(photos, tmp_path)
    assert open_dataset(folder).classes == ordered
    with tarfile.open(tmp_path / "numbers.tar", "w") as tar:
        tar.add(folder, arcname="numbers")
    assert open_dataset(tmp_path / "numbers.tar").classes == ordered
    rows = [f"{name}/0.jpg,{name}" for name in NUMBERS]
    dataset = open_dataset(table(folder, rows))
    assert dataset.classes == ordered
    assert [dataset.classes[item.target] for item in dataset.items] == NUMBERS
    np.savez(tmp_path / "n.npz", images=np.zeros((6, 4, 4), np.uint8), labels=np.array(NUMBERS))
    assert open_dataset(tmp_path / "n.npz").classes == ordered
    texts = "".join(f"{name},a text of some words\n" for name in NUMBERS)
    (tmp_path / "t.csv").write_text("label,text\n" + texts)
    assert open_dataset(tmp_path / "t.csv").classes == ordered


def test_one_name_among_numbers_makes_all_of_them_texts():
    assert class_order(["10", "9", "x"]) == ("10", "9", "x")
    assert class_order(["10.0", "9.0", "-1.0"]) == ("-1.0", "9.0", "10.0")


def test_a_model_keeps_its_own_order(photos, tmp_path):
    dataset = open_dataset(numbered(photos, tmp_path))
    earlier = dataset.with_classes(sorted(NUMBERS))  # "0", "1", "10", "11", "2", "9"
    assert [earlier.classes[item.target] for item in earlier.items] == [item.id.split("/")[0] for item in dataset.items]


def test_white_space_makes_no_other_class(photos, capsys):
    rows = ["red/0.jpg,red ", "red/1.jpg, red", "red/2.jpg,red", "blue/0.jpg,\tblue", "blue/1.jpg,sky\u00a0blue"]
    dataset = open_dataset(table(photos, [*rows, "blue/2.jpg,sky  blue"]))
    assert dataset.class_counts() == {"blue": 1, "red": 3, "sky blue": 2}
    assert "spaces" in capsys.readouterr().err


def test_class_folders_with_white_space(photos, tmp_path):
    shutil.copytree(photos / "red", photos / "blue ")
    dataset = open_dataset(photos)
    assert dataset.class_counts() == {"blue": 6, "red": 3}
    assert {item.id.split("/")[0] for item in dataset.items} == {"blue", "blue ", "red"}  # names of files stay
    assert all(item.location.read() for item in dataset.items)


def test_unicode_forms_are_one_class(photos, tmp_path):
    for side, form in (("train", "NFC"), ("val", "NFD")):
        for name in ("crème", "Übung"):
            shutil.copytree(photos / "red", tmp_path / "data" / side / unicodedata.normalize(form, name))
    dataset = open_dataset(tmp_path / "data")
    assert dataset.classes == ("crème", "Übung")
    assert dataset.select("val").class_counts() == {"crème": 3, "Übung": 3}


def test_a_model_with_names_as_they_were_is_matched(photos):
    dataset = open_dataset(photos)
    turned = dataset.with_classes(("red ", unicodedata.normalize("NFD", "blue")))
    assert turned.classes[turned.items[0].target] == "blue"
    assert turned.classes[turned.items[-1].target] == "red "


def test_twins_stay_different_and_are_said(photos, capsys):
    rows = ["red/0.jpg,Red", "red/1.jpg,red", "red/2.jpg,red", "blue/0.jpg,sky_blue", "blue/1.jpg,Sky Blue"]
    assert len(open_dataset(table(photos, rows)).classes) == 4
    said = capsys.readouterr().err
    assert "'Red' and 'red' (1 and 2 items)" in said
    assert "'Sky Blue' and 'sky_blue' (1 and 1 items)" in said


def test_a_blank_label_is_missing(photos):
    with pytest.raises(restune.UserError, match="no label") as error:
        open_dataset(table(photos, ["red/0.jpg,red", "blue/0.jpg,   "]))
    assert "row 3" in str(error.value)


@pytest.mark.parametrize(
    ("labels", "seen"),
    [
        (["a;b", "a;c", "b;c"], "separated by ';'"),
        (['"sun, sea"', "sun", "sea"], "separated by ','"),
        (["\"['x', 'y']\"", "z", "z"], "'x', 'y'"),
    ],
)
def test_several_labels_in_one_are_refused(photos, labels, seen):
    rows = [f"red/{number}.jpg,{label}" for number, label in enumerate(labels)]
    with pytest.raises(restune.UserError) as error:
        open_dataset(table(photos, rows))
    assert seen in str(error.value)
    assert "multi-label" in str(error.value)


def test_a_separator_alone_makes_no_several_labels(photos):
    rows = ['red/0.jpg,"Paris, France"', 'red/1.jpg,"Lyon, France"', 'blue/0.jpg,"Bonn, Germany"', "blue/1.jpg,a|b"]
    assert len(open_dataset(table(photos, rows)).classes) == 4


def test_clean_name():
    assert clean_name(" \ufeffcafe\u0301 \u200b") == "café"
    assert clean_name("two  words\u00a0here") == "two words here"


def one_hot(photos, rows, head="image,cat,dog,fox"):
    return table(photos, [f"{name},{values}" for name, values in rows], head=head)


def test_one_column_per_class(photos, capsys):
    rows = [("red/0.jpg", "0,1,0"), ("red/1.jpg", "1.0,0.0,0.0"), ("blue/0.jpg", "False,False,True")]
    dataset = open_dataset(one_hot(photos, rows))
    assert dataset.classes == ("cat", "dog", "fox")
    assert [dataset.classes[item.target] for item in dataset.items] == ["dog", "cat", "fox"]
    assert "one column per class: 'cat', 'dog', 'fox'" in capsys.readouterr().err


def test_one_column_per_class_of_texts(tmp_path):
    rows = "".join(f"{n},this is text number {n},{n % 2},{1 - n % 2}\n" for n in range(8))
    (tmp_path / "t.csv").write_text("id,comment,good,bad\n" + rows)
    dataset = open_dataset(tmp_path / "t.csv")
    assert dataset.kind == "text"
    assert [dataset.classes[item.target] for item in dataset.items] == ["bad", "good"] * 4


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("1,0,1", r"2 classes \('cat', 'fox'\)"),
        ("0,0,0", "no class"),
        ("0,0.5,0", "'0.5' is neither 0 nor 1"),
    ],
)
def test_rows_of_several_classes_and_of_none_are_refused(photos, last, message):
    rows = [("red/0.jpg", "0,1,0"), ("red/1.jpg", "1,0,0"), ("blue/0.jpg", last)]
    with pytest.raises(restune.UserError, match=message) as error:
        open_dataset(one_hot(photos, rows), DataOptions(task="single-label"))
    assert "row 4" in str(error.value)
    assert "--label-column" in str(error.value)


def test_a_row_of_several_ones_makes_labels_of_columns(photos):
    rows = [("red/0.jpg", "0,1,0"), ("red/1.jpg", "1,0,0"), ("blue/0.jpg", "1,0,1")]
    dataset = open_dataset(one_hot(photos, rows))
    assert (dataset.task, dataset.values().tolist()) == ("multi-label", [[0, 1, 0], [1, 0, 0], [1, 0, 1]])


def test_a_label_column_wins_over_columns_of_0_and_1(photos):
    rows = [("red/0.jpg", "0,1,warm"), ("blue/1.jpg", "1,1,cold")]
    assert open_dataset(one_hot(photos, rows, "image,sharp,flash,label")).classes == ("cold", "warm")
