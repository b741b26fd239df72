"""Tables with one row per time step are grouped into series, whatever their order and their columns' names."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import restune
from restune.data.dataset import DataOptions
from restune.data.sources import open_dataset
from restune.data.splits import split_dataset

RANDOM = np.random.default_rng(5)
RECORDINGS = {f"r{number}": RANDOM.normal(size=(2, 7 + number)).round(3) for number in range(10)}


def label(name):
    return "fall" if int(name[1:]) % 3 == 0 else "walk"


def rows(time=lambda step: f"{step * 0.5:g}"):
    return [
        (name, time(step), *(f"{value:.3f}" for value in series[:, step]), label(name))
        for name, series in RECORDINGS.items()
        for step in range(series.shape[1])
    ]


def written(path, head, lines, separator=","):
    path.write_text("\n".join(separator.join(map(str, line)) for line in (head, *lines)) + "\n")
    return path


def check(dataset):
    assert dataset.kind == "signal"
    assert dataset.classes == ("fall", "walk")
    assert {item.id: dataset.classes[item.target] for item in dataset.items} == {
        name: label(name) for name in RECORDINGS
    }
    for item in dataset.items:
        assert np.array_equal(item.location.read(), RECORDINGS[item.id].astype(np.float32))


@pytest.mark.parametrize(
    ("case", "time"),
    [
        ("subject", "t"),
        ("Trial ID", "Time (s)"),
        ("seriesId", "step"),
        ("recording", "time_ms"),
        ("flight", "timestamp"),
    ],
)
def test_rows_are_grouped_by_case_and_ordered_by_time(tmp_path, case, time):
    lines = rows()
    head = (case, time, "heart rate", "spo2", "label")
    check(open_dataset(written(tmp_path / "table.csv", head, lines)))
    np.random.default_rng(0).shuffle(lines)
    check(open_dataset(written(tmp_path / "table.tsv", head, lines, "\t")))


@pytest.mark.parametrize(
    "time",
    [
        lambda step: f"2026-02-28T23:59:{59 - step:02d}Z",
        lambda step: f"{17 - step:02d}.03.2026 08:00",
        lambda step: f"10:00:{30 - step:02d}",
        lambda step: 1_700_000_000_000_000_000 - step,
        lambda step: f"{-step * 1e-3:.3e}",
    ],
)
def test_times_are_numbers_or_dates(tmp_path, time):
    lines = rows(time)
    dataset = open_dataset(written(tmp_path / "table.csv", ("case", "time", "x", "y", "label"), lines))
    backwards = {item.id: item.location.read() for item in dataset.items}
    assert all(
        np.array_equal(backwards[name], series[:, ::-1].astype(np.float32)) for name, series in RECORDINGS.items()
    )


def test_a_time_that_is_none_is_named_with_its_row(tmp_path):
    lines = rows(lambda step: step if step != 3 else "03/04/05")
    with pytest.raises(restune.UserError, match=r"'03/04/05' is not a time\n.*row 5"):
        open_dataset(written(tmp_path / "table.csv", ("case", "time", "x", "y", "label"), lines))


def test_parquet_with_types(tmp_path):
    lines = rows(lambda step: step)
    columns = list(zip(*lines, strict=True))
    table = pa.table(
        {
            "unit": columns[0],
            "when": pa.array([int(value) for value in columns[1]], pa.timestamp("s")),
            "a": [float(value) for value in columns[2]],
            "b": [float(value) for value in columns[3]],
            "label": columns[4],
        }
    )
    parquet.write_table(table, tmp_path / "table.parquet")
    check(open_dataset(tmp_path / "table.parquet", DataOptions(case_column="unit", time_column="when")))


def test_columns_whose_names_say_nothing(tmp_path):
    lines = rows()
    path = written(tmp_path / "table.csv", ("p", "q", "v1", "v2", "label"), lines)
    check(open_dataset(path))
    np.random.default_rng(0).shuffle(lines)
    path = written(tmp_path / "table.csv", ("p", "q", "v1", "v2", "label"), lines)
    check(open_dataset(path, DataOptions(case_column="p", time_column="q")))
    with pytest.raises(restune.UserError, match="no column 'pp'"):
        open_dataset(path, DataOptions(case_column="pp"))


def test_series_longer_than_what_is_looked_at(tmp_path):
    lines = [(case, step, f"{case + step / 1000:.3f}", "ab"[case % 2]) for case in range(4) for step in range(700)]
    by_time = sorted(lines, key=lambda line: line[1])
    for order in (lines, by_time):
        dataset = open_dataset(written(tmp_path / "table.csv", ("id", "cycle", "load", "label"), order))
        assert [item.location.read().shape for item in dataset.items] == [(1, 700)] * 4
        assert np.allclose(dataset.items[3].location.read()[0], 3 + np.arange(700) / 1000)


def test_two_columns_together_tell_series_apart_and_one_groups_them(tmp_path):
    lines = [
        (f"s{number // 3}", number % 3, *line[1:])
        for number, name in enumerate(RECORDINGS)
        for line in rows()
        if line[0] == name
    ]
    path = written(tmp_path / "table.csv", ("subject", "trial", "time", "x", "y", "activity"), lines)
    for options in (
        DataOptions(label_column="activity", group_column="subject"),
        DataOptions(label_column="activity", group_column="subject", case_column="subject,trial"),
    ):
        dataset = open_dataset(path, options)
        assert [item.location.read().shape for item in dataset.items] == [
            series.shape for series in RECORDINGS.values()
        ]
        assert [item.group for item in dataset.items] == [f"s{number // 3}" for number in range(10)]


def test_no_recording_lies_on_both_sides(tmp_path):
    dataset = open_dataset(written(tmp_path / "table.csv", ("case", "t", "x", "y", "label"), rows()))
    splits = split_dataset(dataset, val=0.3, test=None, unreadable={}, seed=0, min_class_items=1)
    assert len(splits.train) + len(splits.val) == len(RECORDINGS)


def test_splits_are_read_for_each_series(tmp_path):
    lines = [(*line, "test" if line[0] in ("r8", "r9") else "train") for line in rows()]
    path = written(tmp_path / "table.csv", ("case", "t", "x", "y", "label", "split"), lines)
    assert open_dataset(path).splits() == {"train": 8, "test": 2}
    lines[0] = (*lines[0][:-1], "test")
    with pytest.raises(restune.UserError, match="'r0' has two splits: 'test' and 'train'"):
        open_dataset(written(path, ("case", "t", "x", "y", "label", "split"), lines))


def test_a_case_with_two_labels_is_named(tmp_path):
    lines = rows()
    lines[-1] = (*lines[-1][:-1], "sit")
    with pytest.raises(restune.UserError, match=r"series 'r9' has two labels: 'fall' and 'sit'\n.*column 'label'"):
        open_dataset(written(tmp_path / "table.csv", ("case", "t", "x", "y", "label"), lines))


def test_one_value_per_row_with_a_column_of_channels(tmp_path):
    lines = [
        (name, channel, step, f"{series[channel, step]:.3f}", label(name))
        for name, series in RECORDINGS.items()
        for channel in range(2)
        for step in range(series.shape[1])
    ]
    np.random.default_rng(0).shuffle(lines)
    dataset = open_dataset(
        written(tmp_path / "table.csv", ("case_id", "dim_id", "reading_id", "value", "label"), lines)
    )
    check(dataset)
    assert "2 channels (0, 1)" in dataset.reading


def test_the_line_says_what_was_taken_for_what(tmp_path, capsys):
    lines = [(number, *line) for number, line in enumerate(rows())]
    dataset = open_dataset(written(tmp_path / "table.csv", ("row_number", "case", "t", "x", "y", "label"), lines))
    check(dataset)
    assert dataset.reading == (
        "10 series of 7 to 16 steps x 2 channels (x, y), by case, one row per time step, in the order of t, "
        "labels from column label (2 classes)"
    )
    assert "left out 'row_number'" in capsys.readouterr().err


def test_the_run_says_it_before_it_trains(tmp_path, run):
    path = written(tmp_path / "table.csv", ("case", "t", "x", "y", "label"), rows())
    done = run("train", path, "--smoke", "--device", "cpu", "--out", tmp_path / "run", "--set", "min_class_items=1")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("10 series of 7 to 16 steps x 2 channels (x, y), by case") == 1
    assert "train 8, val 2" in done.stderr


def test_steps_without_a_column_of_series_are_refused(tmp_path):
    with pytest.raises(restune.UserError, match=r"time steps.*no column says which series") as caught:
        open_dataset(written(tmp_path / "table.csv", ("time", "x", "y", "label"), [line[1:] for line in rows()]))
    assert "--case-column" in caught.value.fix
    numbers = [(int(line[0][1:]), *line[1:4], int(line[4] == "fall")) for line in rows()]
    path = tmp_path / "numbers.csv"
    path.write_text("\n".join(",".join(map(str, line)) for line in numbers))
    with pytest.raises(restune.UserError, match="look like time steps of 10 series"):
        open_dataset(path)
    dataset = open_dataset(path, DataOptions(header=False, case_column="0", time_column="1", label_column="4"))
    assert [item.location.read().shape for item in dataset.items] == [series.shape for series in RECORDINGS.values()]


def test_rows_that_repeat_a_time_are_said(tmp_path, capsys):
    lines = rows()
    dataset = open_dataset(written(tmp_path / "table.csv", ("case", "t", "x", "y", "label"), [*lines, lines[3]]))
    assert len(dataset) == 10
    assert "1 rows repeat the series and time (t) of another" in capsys.readouterr().err


def test_a_series_a_row_stays_one(tmp_path):
    """Visits of patients with forty numbered values each are no time steps, dates or not."""
    head = ("patient", "date", "label", *(f"t{place}" for place in range(40)))
    lines = [
        (f"p{visit // 4}", f"2026-01-{visit + 1:02d}", "ab"[visit // 4 % 2], *RANDOM.normal(size=40).round(2))
        for visit in range(24)
    ]
    dataset = open_dataset(written(tmp_path / "table.csv", head, lines))
    assert (len(dataset), dataset.items[0].location.read().shape) == (24, (1, 40))


def test_without_labels(tmp_path):
    path = written(tmp_path / "table.csv", ("case", "t", "x", "y"), [line[:-1] for line in rows()])
    dataset = open_dataset(path, DataOptions(kind="signal", labelled=False))
    assert {item.target for item in dataset.items} == {-1}
    assert all(np.array_equal(item.location.read(), RECORDINGS[item.id].astype(np.float32)) for item in dataset.items)
    with pytest.raises(restune.UserError, match="--label-column"):
        open_dataset(path, DataOptions(kind="signal"))


@pytest.mark.parametrize("first", [True, False])
def test_one_column_per_class(tmp_path, first):
    """Wherever the columns of classes stand, they are labels, and no channels."""
    lines = []
    for line in rows():
        ones = [int(line[-1] == "fall"), int(line[-1] == "walk")]
        lines.append([line[0], *ones, *line[1:-1]] if first else [*line[:-1], *ones])
    head = ("case", "fall", "walk", "t", "p", "q") if first else ("case", "t", "p", "q", "fall", "walk")
    check(open_dataset(written(tmp_path / "table.csv", head, lines)))
