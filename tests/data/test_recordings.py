"""Recordings of one text file each, and numbers as Europe writes them, against what was written."""

from __future__ import annotations

import numpy as np
import pytest

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset
from restune.data.sources.decimals import splits_decimals, uses_commas, with_point

RANDOM = np.random.default_rng(8)
SERIES = [RANDOM.normal(size=(3, 15 + number)).round(3) for number in range(12)]
NAMES = ("t", "gx", "gy", "gz")


def recording(path, series, separator=",", comma=False, header=True, time=True, end="\n"):
    rows = [[f"{step / 50:.2f}", *(f"{value:.3f}" for value in series[:, step])] for step in range(series.shape[1])]
    rows = [[field.replace(".", ",") if comma else field for field in row] for row in rows]
    lines = [separator.join(row if time else row[1:]) for row in ([list(NAMES), *rows] if header else rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(lines) + end).encode())


def label(number):
    return "bike" if number % 2 else "car"


def check(dataset):
    assert (dataset.kind, dataset.classes, len(dataset)) == ("signal", ("bike", "car"), 12)
    for item in dataset.items:
        number = int("".join(sign for sign in item.id.split("/")[-1] if sign.isdigit()))
        assert dataset.classes[item.target] == label(number)
        assert np.array_equal(item.location.read(), SERIES[number].astype(np.float32))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("time", [True, False])
@pytest.mark.parametrize(
    ("suffix", "separator", "comma"),
    [(".csv", ",", False), (".csv", ";", True), (".tsv", "\t", True), (".txt", "  ", False)],
)
def test_class_folders(tmp_path, suffix, separator, comma, header, time):
    for number, series in enumerate(SERIES):
        path = tmp_path / "train" / label(number) / f"rec{number}{suffix}"
        recording(path, series, separator, comma, header, time, end="\r\n")
    dataset = open_dataset(tmp_path)
    check(dataset)
    assert dataset.splits() == {"train": 12}
    assert ("time column" in dataset.reading) == time
    assert dataset.reading.startswith("12 recordings, one file each, rows are time steps, 3 channels")
    assert ("(gx, gy, gz)" in dataset.reading) == header


@pytest.mark.parametrize("below", ["", "signals"])
@pytest.mark.parametrize("column", ["file", "recording_id"])
def test_a_table_of_labels_beside_them(tmp_path, below, column):
    for number, series in enumerate(SERIES):
        recording(tmp_path / below / f"r{number}.csv", series)
    suffix = ".csv" if column == "file" else ""
    lines = [f"r{number}{suffix},{label(number)},p{number // 2}" for number in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join([f"{column},label,person", *lines]))
    dataset = open_dataset(tmp_path, DataOptions(group_column="person"))
    check(dataset)
    assert dataset.items[3].group == "p1"
    check(open_dataset(tmp_path / "labels.csv"))
    unlabelled = open_dataset(tmp_path / "labels.csv", DataOptions(kind="signal", labelled=False))
    assert {item.target for item in unlabelled.items} == {-1}
    (tmp_path / below / "r7.csv").unlink()
    with pytest.raises(restune.UserError, match="1 of 12 recordings are not there: r7"):
        open_dataset(tmp_path)
    (tmp_path / "labels.csv").unlink()
    if not below:
        with pytest.raises(restune.UserError, match="have no labels") as caught:
            open_dataset(tmp_path)
        assert "labels.csv" in caught.value.fix


def test_columns_are_found_by_name_in_each_file(tmp_path):
    recording(tmp_path / "car" / "0.csv", SERIES[0])
    text = "gy,note,gx,label,gz,t\n" + "".join(
        f"{row[1]},ok,{row[0]},1,{row[2]},{step}\n" for step, row in enumerate(SERIES[1].T)
    )
    (tmp_path / "bike").mkdir()
    (tmp_path / "bike" / "1.csv").write_text(text)
    dataset = open_dataset(tmp_path)
    assert "3 channels (gy, gx, gz), time column 't' left out" in dataset.reading
    for item in dataset.items:
        assert np.array_equal(item.location.read(), SERIES[int(item.id[-5])][[1, 0, 2]].astype(np.float32))


def test_a_damaged_recording_is_one_unreadable_item(tmp_path):
    for number, series in enumerate(SERIES):
        recording(tmp_path / label(number) / f"{number}.csv", series)
    (tmp_path / "car" / "2.csv").write_text("t,gx,gy,gz\n0,1,2,3\n1,1,two,3\n")
    dataset = open_dataset(tmp_path)
    (location,) = [item.location for item in dataset.items if item.id == "car/2.csv"]
    with pytest.raises(ValueError, match="'two' in row 3 is not a number"):
        location.read()
    (tmp_path / "car" / "2.csv").write_text("t,gx\n0,1\n")
    with pytest.raises(ValueError, match="no column 'gy', 'gz'"):
        location.read()


def test_texts_and_pictures_stay_what_they_are(tmp_path, photos):
    for name in ("good", "bad"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "texts" / name / f"{number}.txt").write_text(
                "one, two, three\n4, 5, 6\nand more, of it, here\n" * 3
            )
    assert open_dataset(tmp_path / "texts").kind == "text"
    for number in range(9):
        recording(photos / "blue" / f"{number}.csv", SERIES[0])
    assert open_dataset(photos).kind == "image"


def test_a_recording_trains(tmp_path, run):
    for number, series in enumerate(SERIES):
        recording(tmp_path / "data" / label(number) / f"{number}.csv", series, ";", comma=True)
    done = run("train", tmp_path / "data", "--smoke", "--device", "cpu", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "time column 't' left out, in class folders (2 classes)" in done.stderr


def european(values):
    return [f"{value:.3f}".replace(".", ",") for value in values]


@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("header", [True, False])
def test_a_european_table(tmp_path, header, place):
    values = RANDOM.normal(size=(20, 4)).round(3) * 1000
    lines = [european(row) for row in values]
    for number, line in enumerate(lines):
        line.insert(place, "ja" if number % 2 else "nein")
    head = ["a", "b", "c", "d"]
    head.insert(place, "label")
    (tmp_path / "table.csv").write_text("\n".join(map(";".join, [head, *lines] if header else lines)))
    dataset = open_dataset(tmp_path / "table.csv")
    assert dataset.classes == ("ja", "nein")
    assert np.array_equal(np.concatenate([item.location.read() for item in dataset.items]), values.astype(np.float32))


@pytest.mark.parametrize(("name", "separator"), [("rows.csv", ";"), ("rows.tsv", "\t"), ("rows.txt", " ")])
def test_european_rows_of_numbers(tmp_path, name, separator):
    values = RANDOM.normal(size=(6, 5)).round(3)
    lines = [separator.join([str(number % 2), *european(row)]) for number, row in enumerate(values)]
    (tmp_path / name).write_text("\n".join(lines))
    dataset = open_dataset(tmp_path / name)
    assert np.array_equal(np.concatenate([item.location.read() for item in dataset.items]), values.astype(np.float32))


def test_decimal_commas():
    assert [with_point(field) for field in ("1,5", "-0,25", ",5", "1.234,5", "1,5e-3", "a,b", "1,2,3", "7")] == [
        "1.5", "-0.25", ".5", "1234.5", "1.5e-3", "a,b", "1,2,3", "7"
    ]  # fmt: skip
    assert uses_commas([["1,5", "2"]], ",")
    assert not uses_commas([["1,500", "2"]], ","), "a mark between thousands"
    assert uses_commas([["1,500", "2"]], ";")
    assert not uses_commas([["1,5", "2.5"]], ";")
    assert splits_decimals("1,5;2,5;label") == ";"
    assert splits_decimals("a,b;c") is None
    assert splits_decimals("1,2,3") is None


def test_thousands_are_no_decimals(tmp_path):
    lines = "".join(f'"{row + 1},500",{row / 7:.3f},{row / 3:.3f},{"ab"[row % 2]}\n' for row in range(12))
    (tmp_path / "table.csv").write_text("people,x,z,label\n" + lines)
    assert open_dataset(tmp_path / "table.csv").items[1].location.read().shape == (1, 2)


def test_decimal_commas_beside_quotes(tmp_path):
    """The separator is found whatever stands between quotes, and names of columns stay as they are."""
    rows = ['1,5;"a; ""b""\nc";2,25', '3,5;"d";4,75'] * 5
    (tmp_path / "table.csv").write_text("\n".join(['"0,5";state;"1,5"', *rows]) + "\n")
    dataset = open_dataset(tmp_path / "table.csv", DataOptions(kind="signal", label_column="state"))
    assert dataset.classes == ('a; "b" c', "d")
    assert [item.location.read().tolist() for item in dataset.items[:2]] == [[[1.5, 2.25]], [[3.5, 4.75]]]
    assert "columns 0,5 to 1,5" in dataset.reading


def test_a_long_text_is_not_the_name_of_a_file(tmp_path):
    rows = [f'"{number} {"word " * 100}",{"ab"[number % 2]}' for number in range(6)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    dataset = open_dataset(tmp_path / "texts.csv", None)
    assert dataset.kind == "text"
    assert dataset.items[5].location.read().startswith("5 word")
