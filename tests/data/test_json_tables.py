"""Items as JSON: a line each, or one array; bounded, with the line in every message."""

from __future__ import annotations

import json

import pytest

import restune
from restune.data.sources import json_lines, open_dataset

RECORDS = [{"text": f'a text with, "quotes"\nand lines {n}', "label": n % 2, "split": "train"} for n in range(6)]


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def rows(dataset):
    return [(item.location.read(), dataset.classes[item.target]) for item in dataset.items]


@pytest.mark.parametrize(
    "form", ["lines.jsonl", "lines.ndjson", "lines.json", "array.json", "columns.json", "key.json"]
)
def test_texts(tmp_path, form):
    content = {
        "lines": "\n".join(map(json.dumps, RECORDS)),
        "array": json.dumps(RECORDS, indent=1),
        "columns": json.dumps({key: [record[key] for record in RECORDS] for key in RECORDS[0]}),
        "key": json.dumps({"version": 1, "data": RECORDS}),
    }[form.split(".")[0]]
    dataset = open_dataset(written(tmp_path / form, content))
    assert (dataset.kind, dataset.classes) == ("text", ("0", "1"))
    assert rows(dataset) == [(record["text"], str(record["label"])) for record in RECORDS]
    assert dataset.splits() == {"train": 6}


def test_images(photos):
    records = [{"image": f"{name}/0.jpg", "label": name, "size": [1, 2]} for name in ("red", "blue")]
    dataset = open_dataset(written(photos / "t.jsonl", "\n".join(map(json.dumps, records))))
    assert [item.id for item in dataset.items] == ["red/0.jpg", "blue/0.jpg"]
    assert all(item.location.read() for item in dataset.items)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a b c d e f g h i j k", "label": 1}\n{"text": broken', "line 2"),
        ('{"text": "a b c d e f g h i j k", "label": 1}\n{"text": "b"}', "row 2"),
        ('{"text": "a b c d e f g h i j k", "label": ["x", "y"]}\n', "2 classes"),
        ("[" * 100_000, "JSON"),
        ("3", "JSON object"),
        ("", "empty"),
    ],
)
def test_mistakes(tmp_path, content, message):
    with pytest.raises(restune.UserError, match=message):
        open_dataset(written(tmp_path / "t.jsonl", content))


def test_an_array_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "memory_bytes", lambda: 1000)
    with pytest.raises(restune.UserError, match="jsonl"):
        open_dataset(written(tmp_path / "t.json", RECORDS))
    assert len(open_dataset(written(tmp_path / "t.jsonl", "\n".join(map(json.dumps, RECORDS))))) == 6
