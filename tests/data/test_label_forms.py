"""What a table's labels are: classes, several labels, numbers; and what is asked about rather than guessed."""

from __future__ import annotations

import numpy as np
import pytest

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset


@pytest.fixture
def photos(tmp_path, write_noise):
    return write_noise(tmp_path / "photos", red=(120, 30), blue=(0, 30))


def table(photos, header, rows, name="table.csv"):
    """Write a table of the sixty photos, with these fields after the path."""
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*") if path.suffix != ".csv")
    lines = [f"{path},{row}" for path, row in zip(paths, rows, strict=False)]
    file = photos / name
    file.write_text("\n".join([f"path,{header}", *lines]) + "\n")
    return file


def opened(file, **options):
    return open_dataset(file, DataOptions(**options))


MARKS = ["1,0,0", "1,1,0", "0,0,0", "0,1,1"] * 15


def test_columns_of_0_and_1_are_labels_where_a_row_has_several(photos, capsys):
    dataset = open_dataset(table(photos, "cat,dog,night", MARKS))
    assert (dataset.task, dataset.classes) == ("multi-label", ("cat", "dog", "night"))
    assert dataset.values()[:4].tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert dataset.class_counts() == {"cat": 30, "dog": 30, "night": 15}
    assert "multi-label: 'cat', 'dog', 'night'" in " ".join(capsys.readouterr().err.split())


def test_named_columns_and_words_for_yes(photos):
    rows = ["yes,True,x", "no,FALSE,y"] * 30
    dataset = opened(table(photos, "cat,dog,note", rows), label_column="dog, cat")
    assert (dataset.task, dataset.classes) == ("multi-label", ("dog", "cat"))
    assert dataset.values()[:2].tolist() == [[1, 1], [0, 0]]


def test_one_column_per_class_stays_single_label(photos):
    file = table(photos, "cat,dog", ["1,0", "0,1"] * 30)
    assert open_dataset(file).task == "single-label"
    dataset = opened(file, task="multi-label")
    assert (dataset.task, dataset.classes) == ("multi-label", ("cat", "dog"))


def test_a_late_row_with_two_ones_names_the_task(photos):
    file = table(photos, "cat,dog", ["1,0", "0,1"] * 20 + ["1,1"] * 20)
    with pytest.raises(restune.UserError, match="row 42") as error:
        open_dataset(file)
    assert "--task multi-label" in str(error.value)


def test_labels_in_one_column(photos, capsys):
    dataset = open_dataset(table(photos, "label", ["cat|dog", "cat", "dog ", "night|cat"] * 15))
    assert (dataset.task, dataset.classes) == ("multi-label", ("cat", "dog", "night"))
    assert dataset.values()[:4].tolist() == [[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert "multi-label" in capsys.readouterr().err
    assert [dataset.target_text(item.target) for item in dataset.items[:2]] == ["'cat|dog'", "'cat'"]


def test_another_separator_and_items_without_labels(photos):
    file = table(photos, "tags", ["cat;dog", "", "dog", "cat"] * 15)
    dataset = opened(file, label_separator=";")
    assert dataset.values()[:3].tolist() == [[1, 1], [0, 0], [0, 1]]
    with pytest.raises(restune.UserError, match="row 3"):
        open_dataset(file)


def test_one_name_with_a_separator_is_one_class_if_so_named(photos):
    file = table(photos, "label", ["a|b", "a", "b"] * 20)
    dataset = opened(file, task="single-label")
    assert (dataset.task, dataset.classes) == ("single-label", ("a", "a|b", "b"))


def test_json_lists_are_labels(photos):
    file = photos / "table.jsonl"
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert paths
    file.write_text("\n".join(f'{{"image": "{path}", "label": ["sea", "sun, sand"]}}' for path in paths))
    dataset = opened(file, task="multi-label")
    assert dataset.classes == ("sea", "sun, sand")


def test_fractions_are_numbers_to_predict(photos, capsys):
    dataset = open_dataset(table(photos, "label", [f"{n / 4}" for n in range(60)]))
    assert (dataset.task, dataset.classes) == ("regression", ("label",))
    assert dataset.values()[:3].ravel().tolist() == [0, 0.25, 0.5]
    assert "regression" in capsys.readouterr().err


def test_several_columns_of_numbers(photos):
    dataset = opened(table(photos, "x,y", [f"{n},{-n / 8}" for n in range(60)]), label_column="x,y")
    assert (dataset.task, dataset.classes) == ("regression", ("x", "y"))
    assert dataset.values()[2].tolist() == [2, -0.25]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("age", [str(18 + n % 50) for n in range(60)]),
        ("label", [str(n) for n in range(60)]),
        ("sum", [str(n % 7 + n % 9) for n in range(60)]),
        ("label", [str(100 * (n % 30)) for n in range(60)]),
    ],
)
def test_many_whole_numbers_are_asked_about_once(photos, name, values):
    file = table(photos, name, values)
    with pytest.raises(restune.UserError) as error:
        opened(file, label_column=name)
    assert "--task regression" in str(error.value)
    assert "--task single-label" in str(error.value)
    assert opened(file, label_column=name, task="regression").task == "regression"
    classes = opened(file, label_column=name, task="single-label")
    assert (classes.task, len(classes.classes)) == ("single-label", len(set(values)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("stars", [str(1 + n % 5) for n in range(60)]),
        ("label", [str(n % 12) for n in range(60)]),
        ("kind", [str(n % 12) for n in range(60)]),
        ("label", [f"{n % 30:03d}" for n in range(60)]),
    ],
)
def test_numbers_of_classes_are_classes(photos, name, values):
    dataset = opened(table(photos, name, values), label_column=name)
    assert (dataset.task, len(dataset.classes)) == ("single-label", len(set(values)))


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (
            "age",
            ["3", "4", "old"] * 20,
            {"label_column": "age", "task": "regression"},
            "(?s)'old' is not a number.*row 4",
        ),
        ("x,y", ["1,2", "3,"] * 30, {"label_column": "x,y"}, "(?s)a number is missing.*row 3"),
        ("x,y", ["1,2", "3,nan"] * 30, {"label_column": "x,y"}, "'nan' is not a number"),
        ("a,b", ["1,0", "1,7"] * 30, {"label_column": "a,b", "task": "multi-label"}, "'7' is neither 0 nor 1"),
        ("a,b", ["1,0", "0,1"] * 30, {"label_column": "a,b", "task": "single-label"}, "not one class per item"),
        ("a,b", ["1,0"] * 60, {"label_column": "a,c"}, "there is no column 'c'"),
        ("a", ["1", "0"] * 30, {"label_column": "a", "task": "multilabel"}, "unknown task 'multilabel'"),
        ("a", ["1", "0"] * 30, {"label_separator": ";", "task": "regression"}, "no effect"),
    ],
)
def test_mistakes_name_place_and_remedy(photos, header, rows, options, message):
    with pytest.raises(restune.UserError, match=message) as error:
        opened(table(photos, header, rows), **options)
    assert error.value.fix


def test_class_folders_carry_one_class(photos):
    with pytest.raises(restune.UserError, match="one class per item"):
        opened(photos, task="multi-label")


def test_texts_and_series_have_the_same_labels(tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text("text,sad,long\n" + "".join(f'"some words, number {n}",{n % 2},{n % 3 // 2}\n' for n in range(60)))
    dataset = opened(texts, label_column="sad,long")
    assert (dataset.kind, dataset.task, dataset.classes) == ("text", "multi-label", ("sad", "long"))
    series = tmp_path / "series.csv"
    lines = [",".join([*(str(n * k % 7) for k in range(12)), str(n / 3), str(n)]) for n in range(60)]
    series.write_text(",".join([*(f"t{k}" for k in range(12)), "slope", "level"]) + "\n" + "\n".join(lines))
    dataset = opened(series, kind="signal", label_column="slope,level")
    assert (dataset.kind, dataset.task, dataset.classes) == ("signal", "regression", ("slope", "level"))
    assert dataset.items[0].location.read().shape == (1, 12)
    assert dataset.values()[3].tolist() == [1, 3]


def test_a_frame_has_the_same_labels(photos, monkeypatch):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.chdir(photos)
    frame = pandas.read_csv(table(photos, "cat,dog,night", MARKS))
    assert opened(frame).task == "multi-label"
    frame["share"] = np.linspace(0, 1, 60)
    dataset = opened(frame, label_column="share")
    assert (dataset.task, dataset.values()[-1].tolist()) == ("regression", [1])


def test_classes_of_a_model_order_the_columns(photos):
    dataset = open_dataset(table(photos, "cat,dog,night", MARKS))
    turned = dataset.with_classes(("night", "cat", "dog"))
    assert turned.values()[:4].tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]]
    with pytest.raises(restune.UserError, match="'fog'"):
        dataset.with_classes(("cat", "dog", "night", "fog"))
    assert dataset.with_classes(("cat", "dog", "night", "fog"), allow_missing=True).values().shape == (60, 4)


def test_fingerprints_change_with_the_values(photos):
    rows = [f"{n / 4}" for n in range(60)]
    before = open_dataset(table(photos, "label", rows)).fingerprint()
    assert open_dataset(table(photos, "label", rows, "same.csv")).fingerprint() == before
    rows[7] = "1.76"
    assert open_dataset(table(photos, "label", rows)).fingerprint() != before
