"""Series in every form give the same items; every mistake in one is one message with its line."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.io import wavfile

import restune
from restune.data.dataset import DataOptions
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.sources import open_dataset

TS = "#a comment, in Latin-1: \xe9\n@problemName Toy\n@timeStamps false\n@classLabel true up down\n@data\n"


def opened(path, text, **options):
    path.write_text(text)
    return open_dataset(path, DataOptions(**options))


def rows(dataset):
    return [(dataset.classes[item.target], item.location.read().tolist()) for item in dataset.items]


@pytest.mark.parametrize(
    ("name", "sizes", "length", "channels", "classes"),
    [
        ("GunPoint", (50, 150), 150, 1, 2),
        ("ItalyPowerDemand", (67, 1029), 24, 1, 2),
        ("BasicMotions", (40, 40), 100, 6, 4),
        ("RefrigerationDevices", (375, 375), 720, 1, 3),
    ],
)
def test_real_archives(real_data, name, sizes, length, channels, classes):
    dataset = open_dataset(real_data / "ucr" / name)
    assert dataset.kind == "signal"
    assert dataset.splits() == {"train": sizes[0], "test": sizes[1]}
    assert {item.location.read().shape for item in dataset.items} == {(channels, length)}
    assert len(dataset.classes) == classes
    assert len(set(dataset.ids())) == sum(sizes)


def test_a_single_real_file_has_no_splits(real_data):
    path = real_data / "ucr" / "GunPoint" / "GunPoint_TRAIN.ts"
    dataset = open_dataset(path)
    assert dataset.splits() == {}
    assert dataset.class_counts() == {"1": 24, "2": 26}  # published with the set
    line = path.read_text().split("@data\n")[1].split("\n")[2]
    values, label = line.rsplit(":", 1)
    assert dataset.classes[dataset.items[2].target] == label
    assert np.array_equal(dataset.items[2].location.read()[0], np.array(values.split(","), np.float32))


def test_real_tsv_against_numpy(real_data):
    path = real_data / "ucr" / "RefrigerationDevices" / "RefrigerationDevices_TEST.tsv"
    table = np.loadtxt(path)
    dataset = open_dataset(path)
    assert [dataset.classes[item.target] for item in dataset.items] == [str(int(label)) for label in table[:, 0]]
    assert np.array_equal(
        np.stack([item.location.read()[0] for item in dataset.items]), table[:, 1:].astype(np.float32)
    )


def test_ts_with_channels_missing_values_and_lengths_of_all_kinds(tmp_path):
    text = TS + "1,2,3:4,5,6:up\n\n# between\n1,?,3,4:1,2,3,?:down\r\n"
    dataset = opened(tmp_path / "toy.ts", text)
    assert dataset.classes == ("down", "up")
    assert rows(dataset)[0] == ("up", [[1, 2, 3], [4, 5, 6]])
    second = dataset.items[1].location.read()
    assert np.array_equal(second, [[1, np.nan, 3, 4], [1, 2, 3, np.nan]], equal_nan=True)
    assert [item.id for item in dataset.items] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TS.replace("false", "true") + "(1,2):up\n", "time stamps"),
        (TS.replace("@classLabel true up down\n", "") + "1,2:up\n", "no class labels"),
        (TS.replace("true up down", "false") + "1,2\n", "no class labels"),
        (TS + "1,2:up\n1,2:left\n", "'left' is not among.*\n.*line 7"),
        (TS + "1,2:up\n1,x:down\n", "'x' is not a number\n.*line 7"),
        (TS + "1,2:up\n1,2\n", "no label\n.*line 7"),
        (TS + "1,2:up\n1,2:1,2:down\n", "2 channels after series of 1\n.*line 7"),
        (TS + "1,2:1:up\n", "different lengths.*\n.*line 6"),
        ("1,2:up\n", "no @data before its values\n.*line 1"),
        ("@problemName x\n", "no @data in it"),
        (TS, "no items"),
        ("", "no @data in it"),
        ("G\x00\x10\x00\x00\xb0", "no @data before"),
    ],
)
def test_mistakes_in_a_ts(tmp_path, text, message):
    with pytest.raises(restune.UserError, match=message):
        opened(tmp_path / "toy.ts", text)


@pytest.mark.parametrize("separator", ["\t", ",", "  "])
@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".txt"])
def test_rows_of_numbers(tmp_path, separator, suffix):
    lines = [["1.0", "1", "2", "3", "4"], ["-1", "5", "6", "NaN", "NaN"], ["1.0000e+00", "7", "NaN", "8", "9"]]
    dataset = opened(tmp_path / f"toy{suffix}", "\n".join(map(separator.join, lines)))
    assert dataset.classes == ("-1", "1")
    assert rows(dataset)[:2] == [("1", [[1, 2, 3, 4]]), ("-1", [[5, 6]])]  # missing at the end is padding
    assert np.isnan(dataset.items[2].location.read()[0, 1])


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    text = "".join(f"{label}\t1\t2\t3\t4\n" for label in (10, 9, -1, 2))
    assert opened(tmp_path / "toy.tsv", text).classes == ("-1", "2", "9", "10")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t2\t3\t4\n" * 6 + "1\t2\tabc\t4\n", "'abc' is not a number\n.*line 7"),
        ("1\t2\t3\t4\n" * 6 + "1\n", "no values\n.*line 7"),
        ("1\t2\t3\t4\n" * 6 + "0.5\t2\t3\t4\n", "'0.5' is not a class\n.*line 7"),
        ("1\t2\t3\t4\n" * 6, "only one class"),
    ],
)
def test_mistakes_in_rows_of_numbers(tmp_path, text, message):
    with pytest.raises(restune.UserError, match=message):
        opened(tmp_path / "toy.tsv", text)


def test_train_and_test_files_of_one_folder(tmp_path):
    (tmp_path / "Toy_TRAIN.tsv").write_text("1\t1\t2\t3\n2\t1\t2\t3\n")
    (tmp_path / "Toy_TEST.tsv").write_text("3\t1\t2\t3\n")
    (tmp_path / "Toy_TRAIN.txt").write_text("1 1 2 3\n")
    (tmp_path / "README.md").write_text("about")
    dataset = open_dataset(tmp_path)
    assert [(item.id, dataset.classes[item.target], item.split) for item in dataset.items] == [
        ("train/1", "1", "train"),
        ("train/2", "2", "train"),
        ("test/1", "3", "test"),
    ]
    (tmp_path / "Other_TEST.tsv").write_text("3\t1\t2\t3\n")
    with pytest.raises(restune.UserError, match="several data sets here: Other, Toy"):
        open_dataset(tmp_path)


TABLE = "id,label,split,patient,t0,t1,t2\n8,b,train,p1,1,2.5,3\n9,a,test,p2,4,,6\n7,b,train,p1,7,8,\n"


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_a_table_of_values(tmp_path, form):
    path = tmp_path / f"table.{form}"
    if form == "parquet":
        columns = {"label": ["b", "a", "b"], "split": ["train", "test", "train"], "patient": ["p1", "p2", "p1"]}
        columns |= {"t0": [1, 4, 7], "t1": [2.5, None, 8], "t2": [3, 6, None]}
        parquet.write_table(pa.table(columns), path)
    else:
        path.write_text(TABLE if form == "csv" else TABLE.replace(",", "\t"))
    dataset = open_dataset(path, DataOptions(group_column="patient"))
    assert dataset.kind == "signal"
    assert dataset.classes == ("a", "b")
    assert [item.split for item in dataset.items] == ["train", "test", "train"]
    assert [item.group for item in dataset.items] == ["p1", "p2", "p1"]
    assert rows(dataset)[::2] == [("b", [[1, 2.5, 3]]), ("b", [[7, 8]])]
    assert np.array_equal(dataset.items[1].location.read(), [[4, np.nan, 6]], equal_nan=True)


def test_mistakes_in_a_table_of_values(tmp_path):
    head = "label,a,b\n" + "x,1,2\n" * 250
    with pytest.raises(restune.UserError, match=r"'abc' is not a number\n.*row 252, column 'b'"):
        opened(tmp_path / "table.csv", head + "y,1,abc\n")
    with pytest.raises(restune.UserError, match="no columns of numbers"):
        opened(tmp_path / "table.csv", "label,a\nx,one\ny,two\n", kind="signal")
    with pytest.raises(restune.UserError, match="'a' occurs twice"):
        opened(tmp_path / "table.csv", "label,a,a\nx,1,2\ny,1,2\n")
    with pytest.raises(restune.UserError, match=r"row 3.*'label'"):
        opened(tmp_path / "table.csv", "label,a,b\nx,1,2\n,1,2\n")


def test_npz_of_series(tmp_path):
    path, labels = tmp_path / "data.npz", np.array([10, 9, 10])
    flat = np.arange(12, dtype=np.float64).reshape(3, 4)
    flat[1, 2:] = np.nan
    np.savez(path, x=flat, y=labels)
    dataset = open_dataset(path)
    assert (dataset.kind, dataset.classes) == ("signal", ("9", "10"))
    assert rows(dataset)[1] == ("9", [[4, 5]])
    many = np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    np.savez(path, x=many, y=labels)
    assert open_dataset(path).kind == "image"
    assert np.array_equal(open_dataset(path, DataOptions(kind="signal")).items[2].location.read(), many[2])
    np.savez(path, x=many[None], y=labels)
    with pytest.raises(restune.UserError, match=r"\[N, C, L\]"):
        open_dataset(path, DataOptions(kind="signal"))
    with pytest.raises(restune.UserError, match="not as text"):
        open_dataset(path, DataOptions(kind="text"))


def test_folders_of_recordings(tmp_path):
    for split in ("train", "test"):
        for name in ("dog", "cat"):
            (tmp_path / split / name).mkdir(parents=True)
            wavfile.write(tmp_path / split / name / "1.wav", 8000, np.arange(80, dtype=np.int16))
            (tmp_path / split / name / "1.txt").write_text("a transcript")
    dataset = open_dataset(tmp_path)
    assert (dataset.kind, dataset.classes) == ("signal", ("cat", "dog"))
    assert [(item.id, item.split) for item in dataset.items][:2] == [
        ("test/cat/1.wav", "test"),
        ("test/dog/1.wav", "test"),
    ]
    sample = SignalPreprocess(rate=8000, normalization="none").apply(dataset.items[0].location.read())
    assert sample.shape == (1, 80)
    (tmp_path / "table.csv").write_text("recording,label\ntrain/dog/1.wav,dog\ntrain/cat/1.wav,cat\n")
    listed = open_dataset(tmp_path / "table.csv")
    assert listed.kind == "signal"
    assert listed.items[0].location.read() == dataset.items[0].location.read()


def test_the_kind_that_is_named_must_fit(tmp_path, photos):
    (tmp_path / "toy.tsv").write_text("1\t2\t3\t4\n2\t2\t3\t4\n")
    with pytest.raises(restune.UserError, match="a file of series, not of images"):
        open_dataset(tmp_path / "toy.tsv", DataOptions(kind="image"))
    with pytest.raises(restune.UserError, match="no series here"):
        open_dataset(photos, DataOptions(kind="signal"))
    with pytest.raises(restune.UserError, match="Did you mean 'signal'"):
        open_dataset(tmp_path / "toy.tsv", DataOptions(kind="signals"))
    with pytest.raises(restune.UserError, match="images, not series"):
        open_dataset("digits", DataOptions(kind="signal"))


def test_a_place_travels_and_its_signature_follows_the_values(tmp_path):
    dataset = opened(tmp_path / "toy.tsv", "1\t2\t3\t4\n2\t2\t3\t5\n")
    one, other = (item.location for item in dataset.items)
    assert np.array_equal(pickle.loads(pickle.dumps(other)).read(), [[2, 3, 5]])
    assert one.signature() != other.signature()
    first = dataset.fingerprint()
    assert opened(tmp_path / "toy.tsv", "1\t2\t3\t4\n2\t2\t3\t5\n").fingerprint() == first
    assert opened(tmp_path / "toy.tsv", "1\t2\t3\t4\n2\t2\t3\t6\n").fingerprint() != first
