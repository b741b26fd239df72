"""restune check: what it writes and prints, and its exit status."""

from __future__ import annotations

import csv
import json

import pytest

import restune
from restune.data.audit.findings import COLUMNS, Finding, read_findings, write_findings
from restune.data.sources import open_dataset


def test_the_command_writes_what_it_prints(run, write_noise, tmp_path):
    photos = write_noise(tmp_path / "photos", a=(0, 30), b=(120, 3))
    (photos / "a" / "photo.heif2").write_bytes(b"x")
    done = run("check", photos, "--no-labels", "--json", "--out", tmp_path / "out")
    printed = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, printed["items"], printed["serious"]) == (0, 33, True)
    assert printed["findings"] == {"not-taken": 1, "small-class": 1, "imbalance": 1}
    with (tmp_path / "out" / "check.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert (tuple(rows[0]), len(rows)) == (COLUMNS, 4)
    assert rows[1][1:3] == ["small-class", "serious"], "serious findings come first"
    assert ["a/*.heif2", "not-taken", "warning"] in [row[:3] for row in rows]


def test_strict_exits_with_3_after_writing(run, write_noise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fine, faulty = write_noise(tmp_path / "fine", a=(0, 25), b=(120, 25)), write_noise(tmp_path / "bad", a=(0, 25))
    write_noise(tmp_path / "bad2", b=(9, 3))
    (tmp_path / "bad2" / "b").rename(faulty / "b")
    assert run("check", fine, "--strict").returncode == 0
    assert run("check", faulty, "--strict").returncode == 3
    assert (tmp_path / "runs" / "check-002" / "check.csv").exists()
    with pytest.raises(restune.UserError, match="serious"):
        restune.check(faulty, strict=True)


def test_findings_survive_the_table(tmp_path):
    written = (
        Finding('a,b/\udcff "x".jpg', "duplicate", "warning", 1.0, "drop: same pixels as c.jpg"),
        Finding("", "imbalance", "note", 0.25, "look: 'a' has 3"),
    )
    write_findings(tmp_path / "check.csv", written)
    assert read_findings(tmp_path / "check.csv") == written
    (tmp_path / "check.csv").write_text("a,b\n1,2\n")
    with pytest.raises(restune.UserError, match="not a table of findings"):
        read_findings(tmp_path / "check.csv")


@pytest.mark.parametrize("kind", ["text", "image", "values"])
def test_rows_without_a_label_are_named_and_dropped_or_relabelled(kind, run, write_noise, tmp_path):
    photos = write_noise(tmp_path / "photos", a=(0, 15), b=(120, 15))
    paths = [str(path.relative_to(photos)) for path in sorted(photos.glob("*/*.png"))]
    content = {
        "text": ("text", [f"a text, number {place}" for place in range(30)]),
        "image": ("path", paths),
        "values": ("v1,v2,v3,v4,v5,v6,v7,v8", [",".join(str(place * n % 7) for n in range(8)) for place in range(30)]),
    }
    column, rows = content[kind]
    rows = [f'"{row}"' if kind == "text" else row for row in rows]
    labels = ["" if place in (4, 9) else "ab"[place // 15] for place in range(30)]
    table = photos / "table.csv"
    table.write_text(f"{column},label\n" + "".join(f"{row},{label}\n" for row, label in zip(rows, labels, strict=True)))
    done = run("check", table, "--no-labels", "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    assert (printed["items"], printed["findings"]["missing-label"], printed["serious"]) == (30, 2, True)
    missing = [one.item for one in read_findings(tmp_path / "out" / "check.csv") if one.finding == "missing-label"]
    with pytest.raises(restune.UserError, match="has no label"):
        open_dataset(table)
    opened = open_dataset(table, restune.DataOptions(exclude=tmp_path / "out" / "check.csv"))
    assert opened.class_counts() == {"a": 13, "b": 15}
    assert set(opened.left_out) == set(missing)
    decisions = tmp_path / "decisions.csv"
    decisions.write_text(f"item,decision,label\n{missing[0]},relabel,b\n")
    with pytest.raises(restune.UserError, match="this item has no label"):
        open_dataset(table, restune.DataOptions(decisions=decisions))
    decisions.write_text(f"item,decision,label\n{missing[0]},relabel,b\n{missing[1]},drop,\n")
    assert open_dataset(table, restune.DataOptions(decisions=decisions)).class_counts() == {"a": 13, "b": 16}
