"""Several columns of texts joined to one, headerless tables of them, and usual names of label columns."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

import restune
from restune.data.inputs import expand
from restune.data.sources import open_dataset

TITLES = ["Rates rise again", "Team wins the cup", "", "New phone is out"]
BODIES = ["The bank has raised its rate.", "A late goal decided it, two to one.", "No title here, only text.", ""]
JOINED = [
    *("Rates rise again The bank has raised its rate.", "Team wins the cup A late goal decided it, two to one."),
    *("No title here, only text.", "New phone is out"),
]


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def news(path, *, header=True, times=4):
    rows = [(number % 2 + 1, TITLES[number % 4], BODIES[number % 4]) for number in range(4 * times)]
    return write(path, [("topic", "title", "body"), *rows] if header else rows)


def texts(dataset):
    return [item.location.read() for item in dataset.items]


@pytest.mark.parametrize(
    ("header", "columns"), [(True, "title,body"), (True, " title , body"), (False, "1,2"), (True, "body,title")]
)
def test_titles_and_bodies_are_joined(tmp_path, capsys, header, columns):
    table = news(tmp_path / "news.csv", header=header)
    options = restune.DataOptions(text_column=columns, header=header)
    dataset = open_dataset(table, options)
    assert (dataset.kind, dataset.classes) == ("text", ("1", "2"))
    wanted = JOINED if not columns.startswith("body") else [f"{BODIES[0]} {TITLES[0]}"]
    assert texts(dataset)[: len(wanted)] == wanted
    assert "joined by a space" in capsys.readouterr().err
    assert " + " in dataset.reading


def test_json_parquet_and_frames_are_joined_too(tmp_path):
    rows = [{"label": "ab"[n % 2], "title": TITLES[n % 4] or None, "body": BODIES[n % 4]} for n in range(8)]
    (tmp_path / "news.jsonl").write_text("\n".join(map(json.dumps, rows)))
    frame = pa.Table.from_pylist(rows)
    parquet.write_table(frame, tmp_path / "news.parquet")
    for data in (tmp_path / "news.jsonl", tmp_path / "news.parquet", frame):
        assert texts(open_dataset(data, restune.DataOptions(text_column="title,body")))[:4] == JOINED


def test_a_column_whose_name_has_a_comma_is_itself(tmp_path):
    table = write(
        tmp_path / "t.csv", [("label", "one, two", "two"), *([n % 2, f"text number {n}", "x"] for n in range(8))]
    )
    options = restune.DataOptions(text_column="one, two")
    assert texts(open_dataset(table, options))[0] == "text number 0"


@pytest.mark.parametrize(
    ("columns", "message"), [("title,bdy", "Did you mean 'body'"), ("title,topic", "the same column")]
)
def test_wrong_columns_are_named(tmp_path, columns, message):
    with pytest.raises(restune.UserError) as raised:
        open_dataset(news(tmp_path / "news.csv"), restune.DataOptions(text_column=columns))
    assert message in str(raised.value)


def test_rows_to_predict_are_joined_without_labels(tmp_path):
    table = write(tmp_path / "new.csv", [("title", "body"), *zip(TITLES, BODIES, strict=True)])
    items = expand(str(table), restune.DataOptions(kind="text", text_column="title,body"), ("1", "2"))
    assert [item.location.read() for item in items] == JOINED


def test_train_evaluate_predict_embed(run, tmp_path):
    rows = [(number % 2 + 1, TITLES[number % 4], f"{BODIES[number % 4]} {number}") for number in range(40)]
    table = write(tmp_path / "news.csv", [("topic", "title", "body"), *rows])
    columns = ["--text-column", "title,body"]
    options = ["--epochs", 1, "--batch-size", 8, "--set", "spec.width=4", "--out", tmp_path / "run"]
    done = run("train", table, *columns, *options)
    assert done.returncode == 0, done.stderr
    assert f"restune evaluate {tmp_path / 'run'} {table} --text-column title,body" in done.stdout
    first = (tmp_path / "run" / "recipe.yaml").read_text().splitlines()[0]
    assert first == f"# restune train {table} --text-column title,body --recipe THIS_FILE repeats the run"
    assert run("evaluate", tmp_path / "run", table, *columns, "--split", "all").returncode == 0
    one = json.loads(run("predict", tmp_path / "run", table, *columns, "--json").stdout)["predictions"]
    alone = json.loads(run("predict", tmp_path / "run", f"{JOINED[0]} 0", "--json").stdout)["predictions"]
    assert one[0]["probability"] == pytest.approx(alone[0]["probability"], abs=1e-4)
    done = run("embed", tmp_path / "run", table, *columns, "--out", tmp_path / "e.npz")
    assert done.returncode == 0, done.stderr


def test_a_headerless_table_of_titles_and_bodies_is_recognised(tmp_path, capsys):
    rows = [
        (number % 2 + 1, f"The title of the news, number {number}", f"{number}: {BODIES[0]}") for number in range(16)
    ]
    dataset = open_dataset(write(tmp_path / "news.csv", rows))
    said = capsys.readouterr().err
    assert "--no-header; --text-column 1,2 joins the texts" in said
    assert len(dataset) == 16
    assert dataset.classes == ("1", "2")
    assert texts(dataset)[0] in (rows[0][1], rows[0][2])


def test_a_table_that_only_may_be_headerless_names_the_option(tmp_path):
    rows = [(f"This is the text of number {number}", f"and {number} more") for number in range(9)]
    with pytest.raises(restune.UserError) as raised:
        open_dataset(write(tmp_path / "t.csv", rows))
    assert "--no-header" in str(raised.value)


@pytest.mark.parametrize("name", ["labels", "Labels", "tags", "tag", "target", "targets", "age", "category", "y"])
def test_usual_names_of_labels_are_found(tmp_path, name, capsys):
    rows = [(f"a text of some length, number {number}", "ab"[number % 2]) for number in range(12)]
    dataset = open_dataset(write(tmp_path / "t.csv", [("text", name), *rows]))
    assert (len(dataset), dataset.classes) == (12, ("a", "b"))
    assert f"labels from column {name!r}" in capsys.readouterr().err


def test_age_is_the_label_only_where_nothing_else_is(tmp_path, capsys):
    rows = [(f"a text of some length, number {number}", 20 + number, "ab"[number % 2]) for number in range(12)]
    assert open_dataset(write(tmp_path / "t.csv", [("text", "age", "label"), *rows])).classes == ("a", "b")
