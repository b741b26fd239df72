"""Ids are no values, labels that are all different no classes, and what was read is said in one line."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import restune
from restune.data.dataset import DataOptions
from restune.data.plausibility import identifiers, is_identifier_name, is_time_name, words_of
from restune.data.sources import open_dataset

RANDOM = np.random.default_rng(3)
VALUES = RANDOM.normal(size=(40, 12)).round(3)


def table(path, name, ids, place=0, values=VALUES):
    """Series of twelve values with a column of ids before or after them."""
    head = ["state", *(f"t{step}" for step in range(values.shape[1]))]
    lines = [["on" if row % 2 else "off", *map(str, series)] for row, series in enumerate(values)]
    for line, one in zip([head, *lines], [name, *ids], strict=True):
        line.insert(place if place >= 0 else len(line), str(one))
    path.write_text("\n".join(map(",".join, [head, *lines])))
    return open_dataset(path, DataOptions(label_column="state"))


LARGE = RANDOM.permutation(np.arange(5 * 10**8, 5 * 10**8 + 40)).tolist()


@pytest.mark.parametrize("place", [0, 1, -1])
@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("record_id", LARGE),
        ("SubjectID", LARGE),
        ("series id", range(1, 41)),
        ("Unnamed: 0", range(40)),
        ("n", range(1, 41)),
        ("chart", [7 * one for one in LARGE]),
        ("uuid", [f"{one:x}-f" for one in LARGE]),
        ("patient_no", [f"00{one}" for one in range(40)]),
        ("timestamp", [1_700_000_000 + 60 * row for row in range(40)]),
    ],
)
def test_ids_are_left_out_and_said(tmp_path, capsys, name, ids, place):
    dataset = table(tmp_path / "table.csv", name, ids, place)
    assert f"left out {name!r}" in capsys.readouterr().err
    assert np.array_equal(np.concatenate([item.location.read() for item in dataset.items]), VALUES.astype(np.float32))


def test_ids_in_parquet(tmp_path):
    columns = {"customer_id": LARGE, "label": ["a", "b"] * 20} | {f"v{step}": VALUES[:, step] for step in range(12)}
    parquet.write_table(pa.table(columns), tmp_path / "table.parquet")
    assert open_dataset(tmp_path / "table.parquet").items[5].location.read().shape == (1, 12)


def test_values_are_no_ids(tmp_path, capsys):
    for name, values in (("grid", VALUES[:, 0]), ("acid", range(0, 80, 2)), ("humidity", RANDOM.integers(0, 9, 40))):
        assert table(tmp_path / "table.csv", name, values).items[0].location.read().shape == (1, 13)
    assert "left out" not in capsys.readouterr().err
    counts = RANDOM.integers(0, 50, (40, 12))
    assert table(tmp_path / "table.csv", "t99", counts[:, 0], values=counts).items[0].location.read().shape == (1, 13)


def test_a_column_that_drowns_the_others_is_warned_of(tmp_path, capsys):
    table(tmp_path / "table.csv", "pressure", (VALUES[:, 0] * 1e5).round(3))
    assert "warning: column 'pressure' is" in capsys.readouterr().err
    table(tmp_path / "table.csv", "pressure", (VALUES[:, 0] * 1e2).round(3))
    assert "warning" not in capsys.readouterr().err
    lines = "".join(f"{row % 2} {LARGE[row]}.5 {' '.join(map(str, VALUES[row]))}\n" for row in range(40))
    (tmp_path / "rows.txt").write_text(lines.replace(str(LARGE[3]), str(10**7)))
    open_dataset(tmp_path / "rows.txt")
    assert "warning: column '1' is" in capsys.readouterr().err


def test_rows_that_share_an_id_are_warned_of(tmp_path, capsys):
    table(tmp_path / "table.csv", "patient_id", [row // 4 for row in range(40)])
    assert "column 'patient_id' has 10 different values in 40 rows" in capsys.readouterr().err
    path = tmp_path / "table.csv"
    open_dataset(path, DataOptions(label_column="state", group_column="patient_id"))
    assert "different values" not in capsys.readouterr().err


def test_labels_that_are_ids_are_warned_of(tmp_path, capsys):
    path = tmp_path / "table.csv"
    path.write_text("label,a,b\n" + "".join(f"k{row},{row / 7},{row / 3}\n" for row in range(30)))
    assert "labels from column label (30 classes)" in open_dataset(path).reading
    assert "30 different labels in 30 items; are they ids" in capsys.readouterr().err
    path.write_text("text,label\n" + "".join(f"the same few words again,{row}\n" for row in range(30)))
    open_dataset(path, DataOptions(task="single-label"))
    assert "30 different labels" in capsys.readouterr().err
    with pytest.raises(restune.UserError, match="may be amounts or classes"):
        open_dataset(path)


def test_a_class_written_in_two_ways_is_counted_once(tmp_path):
    labels = ("caf\u00e9", "cafe\u0301", "bar", " bar")
    path = tmp_path / "table.csv"
    path.write_text("text,label\n" + "".join(f"some words,{labels[row % 4]}\n" for row in range(40)))
    assert open_dataset(path).reading == "40 texts, column text, labels from column label (2 classes)"


def test_constant_series_are_warned_of(tmp_path, capsys):
    values = VALUES.copy()
    values[4:7] = 0.5
    table(tmp_path / "table.csv", "id", LARGE, values=values)
    assert "3 of 40 series are constant" in capsys.readouterr().err


def test_texts_that_share_no_words_are_warned_of(tmp_path, capsys):
    path = tmp_path / "table.csv"
    path.write_text("text,label\n" + "".join(f"user{row}x,{row % 2}\n" for row in range(60)))
    open_dataset(path)
    assert "share almost no words (60 different ones among 60)" in capsys.readouterr().err
    path.write_text("text,label\n" + "".join(f"a text of user{row}x,{row % 2}\n" for row in range(60)))
    assert open_dataset(path).reading == "60 texts, column text, labels from column label (2 classes)"
    assert "share" not in capsys.readouterr().err


def test_names():
    assert words_of("caseId") == words_of("Case ID") == words_of("case_id") == ["case", "id"]
    assert all(map(is_identifier_name, ("id", "ID", "patient_id", "Sample No", "row", "", "subject", "uuid", "index")))
    assert not any(map(is_identifier_name, ("t0", "sample_12", "acid", "id_score", "solid", "window_size", "x")))
    assert all(map(is_time_name, ("t", "Time (s)", "timestamp", "time_ms", "frame_id", "measurement_number", "时间")))
    assert not any(map(is_time_name, ("t0", "temperature", "lifetime", "time_constant_a", "reading", "order")))
    assert identifiers(["a", "b"], np.zeros((0, 2))) == []


def test_real_data_is_plausible(real_data, capsys):
    lines = [
        open_dataset(path).reading for folder in ("ucr", "text") for path in sorted((real_data / folder).iterdir())
    ]
    assert "warning" not in capsys.readouterr().err
    assert lines[0] == "80 series of 100 steps x 6 channels (4 classes)"
    assert "5,452 texts, one per line after its label (6 classes)" in lines
    assert "5,574 texts, column 1, labels from column 0 (2 classes)" in lines


def test_photos_and_texts_in_folders(photos, tmp_path):
    assert open_dataset(photos).reading == "6 images in 2 class folders"
    for name in ("good", "bad"):
        (tmp_path / "texts" / name).mkdir(parents=True)
        (tmp_path / "texts" / name / "1.txt").write_text("a text, 12 words")
    assert open_dataset(tmp_path / "texts").reading == "2 texts in 2 class folders"


@pytest.mark.parametrize("kind", ["text", "signal"])
def test_tables_are_read_without_labels(tmp_path, kind):
    path, options = tmp_path / "table.csv", DataOptions(kind=kind, labelled=False)
    if kind == "text":
        path.write_text("id,review\n7,good film\n8,\n")
        dataset = open_dataset(path, options)
        assert [item.location.read() for item in dataset.items] == ["good film", ""]
    else:
        path.write_text("record_id,label,v0,v1\n500000001,a,1,2\n500000002,,3,4\n")
        dataset = open_dataset(path, options)
        assert [item.location.read().tolist() for item in dataset.items] == [[[1, 2]], [[3, 4]]]
        (tmp_path / "toy.ts").write_text("@classLabel false\n@data\n1,2:3,4\n")
        assert open_dataset(tmp_path / "toy.ts", options).items[0].location.read().tolist() == [[1, 2], [3, 4]]
        (tmp_path / "toy.ts").write_text("@classLabel true a b\n@data\n1,2:3,4:b\n")
        assert open_dataset(tmp_path / "toy.ts", options).items[0].location.read().tolist() == [[1, 2], [3, 4]]
    assert [item.target for item in dataset.items] == [-1, -1]
    assert [item.id for item in dataset.items] == ["2", "3"]
    assert dataset.classes == ()
    with pytest.raises(restune.UserError):
        open_dataset(path, DataOptions(kind=kind))


def test_tables_of_sounds_are_read_without_labels(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("audio_file,length\na.wav,3\nb.wav,4\n")
    dataset = open_dataset(path, DataOptions(kind="signal", labelled=False))
    assert [(item.id, item.target) for item in dataset.items] == [("a.wav", -1), ("b.wav", -1)]
    assert (dataset.classes, dataset.class_counts(), dataset.form) == ((), {}, "sound")
