"""The stored tables of benchmarks/tables/ and docs/results.md: every figure agrees with the stored values."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.tables import common, document, time_to_accuracy
    from benchmarks.tables.common import Measured, Row, Table, Text, same
finally:
    sys.path.remove(str(ROOT))

TABLES = document.tables()
STORED = {table.name: common.load(table.name) for table in TABLES}
ROWS = [pytest.param(table, row, id=f"{table.name}-{row.key}") for table in TABLES for row in table.rows]


def test_there_are_tables_with_stored_rows():
    assert {"cifar", "time_to_accuracy", "series", "text", "transfer", "gpu"} <= set(STORED)
    assert {path.stem for path in common.RESULTS.glob("*.json")} == set(STORED)
    assert sum(bool(row["values"]) for rows in STORED.values() for row in rows.values()) >= 2


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_stored_rows_are_the_tables(table):
    assert list(STORED[table.name]) == [row.key for row in table.rows]


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_every_figure_follows_from_the_values(table, row):
    stored = STORED[table.name][row.key]
    assert stored["label"] == row.label.stored()
    values = list(stored["values"].values())
    if not values:
        assert stored["reason"]["en"]
        assert re.search(r"[\u4e00-\u9fff]", stored["reason"]["zh"])
        assert stored["mean"] is None
        return
    assert stored["reason"] is None
    assert stored["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert stored["std"] == (pytest.approx(np.std(values, ddof=1), rel=1e-9) if len(values) > 1 else None)
    assert set(stored["values"]) <= {str(seed) for seed in row.seeds}
    assert stored["protocol"] == json.loads(json.dumps(row.protocol))
    for key in ("processor", "cores", "memory_gib", "avx512_bf16", "avx512_vnni", "gpu"):
        assert key in stored["machine"]
    assert {"python", "restune", "torch", *row.peers} <= set(stored["versions"])
    assert "not installed" not in stored["versions"].values()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", stored["date"])
    assert stored["command"].startswith(("python -m benchmarks.tables.", "restune "))
    if row.minus:
        first, second = (STORED[table.name][key]["values"] for key in row.minus)
        assert stored["values"] == {seed: first[seed] - second[seed] for seed in first if seed in second}
        if len(values) > 1:
            sem = stats.sem(values)
            low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), sem) if sem else [values[0]] * 2
            assert stored["interval"] == pytest.approx([low, high])


@pytest.mark.parametrize(("lang", "page"), [("en", "docs/results.md"), ("zh", "docs/zh/results.md")])
def test_the_pages_are_those_of_the_stored_values(lang, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == document.page(lang), "run python -m benchmarks.tables"
    cells = [cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.split("|")]
    for table in TABLES:
        for stored in STORED[table.name].values():
            assert stored["label"][lang] in cells
            if stored["values"]:
                mean = statistics.fmean(stored["values"].values())
                assert any(re.match(rf"\+?{mean:.{table.digits}f}\b", cell) for cell in cells)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_pictures_are_those_of_the_stored_values(lang):
    curve = {"0": [[1.0, 40.0], [10.0, 91.5]]}
    assert time_to_accuracy.picture({"fast": {"values": {}, "extra": {}}}, lang) is None
    drawn = time_to_accuracy.picture({"fast": {"values": {"0": 90.0}, "extra": {"curve": curve}}}, lang)
    (line,) = ElementTree.fromstring(drawn.svg).iterfind(".//{*}polyline")
    (x_first, y_first), (x_last, y_last) = (map(float, point.split(",")) for point in line.get("points").split())
    assert x_first < x_last
    assert y_first > y_last
    for picture in document.pictures(lang):
        assert (ROOT / "docs" / "pictures" / picture.file).read_text(encoding="utf-8") == picture.svg


def test_time_to_accuracy_is_the_first_time_that_reaches_it():
    curve = [[1.0, 70.0], [2.0, 85.0], [3.0, 84.0], [4.0, 90.0]]
    assert [time_to_accuracy.time_to(target, curve) for target in (80, 85, 86, 92)] == [2.0, 2.0, 4.0, None]


def test_a_change_of_one_stored_value_changes_the_page(tmp_path):
    shutil.copytree(common.RESULTS, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "text.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    row = next(row for row in stored["rows"] if row["values"])
    row["values"]["0"] += 0.5
    assert document.page("en", tmp_path) == document.page("en")
    path.write_text(json.dumps(stored), encoding="utf-8")
    assert document.page("en", tmp_path) != document.page("en")


@pytest.fixture
def one_table(monkeypatch, tmp_path):
    """A table of two contenders and their difference, stored in an empty folder; returns it and the values measured."""
    calls = []

    def measure(name):
        def value(seed, settings):
            calls.append((name, seed))
            if len(calls) == 3 and settings.data.name == "interrupted":
                raise KeyboardInterrupt
            return Measured(value=10 * seed + {"a": 3.0, "b": 1.5}[name], n=7, extra={"seconds": seed})

        return value

    def table(protocol):
        rows = [Row(key=key, label=same(key), measure=measure(key), protocol=protocol) for key in "ab"]
        rows.append(Row(key="gain", label=same("gain"), minus=("a", "b")))
        return Table(
            name="two", order=0, title=same("Two"), text=Text("x", "乙"), value=same("v"), unit="%", rows=tuple(rows)
        )

    def run(*options, protocol=None):
        monkeypatch.setattr(sys, "argv", ["two", "--results", str(tmp_path), *options])
        common.main(table(protocol or {"epochs": 1}))
        return common.load("two", tmp_path)

    return run, calls, tmp_path


def test_an_interrupted_table_keeps_its_values_and_continues(one_table):
    run, calls, folder = one_table
    with pytest.raises(KeyboardInterrupt):
        run("--data", "interrupted")
    assert common.load("two", folder)["a"]["values"] == {"0": 3.0, "1": 13.0}
    rows = run("--data", "whole")
    assert calls == [("a", 0), ("a", 1), ("a", 2), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]
    assert rows["a"]["mean"] == 13.0
    assert rows["a"]["std"] == 10.0
    assert rows["a"]["n"] == 7
    assert rows["gain"]["values"] == {"0": 1.5, "1": 1.5, "2": 1.5}
    assert rows["gain"]["interval"] == [1.5, 1.5]
    run("--data", "whole")
    assert len(calls) == 7, "nothing is measured twice"


def test_values_of_another_protocol_are_discarded_and_chosen_rows_measured_again(one_table):
    run, calls, _ = one_table
    run("--data", "whole", "--quick")
    assert calls == [("a", 0), ("b", 0)]
    rows = run("--data", "whole", "--only", "b", protocol={"epochs": 2})
    assert not rows["a"]["values"]
    assert rows["a"]["reason"]["en"] == "takes about 3 min on 2 cores"
    assert rows["gain"]["reason"]
    assert calls[2:] == [("b", 0), ("b", 1), ("b", 2)]
    run("--data", "whole", "--only", "b", "--again", protocol={"epochs": 2})
    assert len(calls) == 8


def test_values_of_another_machine_are_merged_and_replace_those_of_this_one(one_table):
    """Each seed was measured by its own process; a folder of another protocol is not taken."""
    run, calls, folder = one_table
    run("--data", "whole", "--only", "a")
    there = [folder / name for name in ("first", "second", "other")]
    for number, (other, protocol) in enumerate(zip(there, ({"epochs": 1}, {"epochs": 1}, {"epochs": 9}), strict=True)):
        run("--data", "whole", "--seeds", str(number), "--results", str(other), protocol=protocol)
        path = other / "two.json"
        path.write_text(
            path.read_text(encoding="utf-8").replace(f'"gpu": {json.dumps(common.gpu_name())}', '"gpu": "X"')
        )
    count = len(calls)
    rows = run("--merge", *map(str, there))
    assert len(calls) == count, "nothing is measured"
    assert rows["a"]["values"] == {"0": 3.0, "1": 13.0}
    assert rows["a"]["machine"]["gpu"] == "X"
    assert rows["a"]["extra"]["seconds"] == {"0": 0, "1": 1}
    assert rows["gain"]["values"] == {"0": 1.5, "1": 1.5}
