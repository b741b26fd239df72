"""Slices by column, by property and by cluster: planted weaknesses are found, chance is not, p-values are scipy's."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import false_discovery_control, fisher_exact

import restune
from restune.data.dataset import DataOptions
from restune.evaluation.evaluation import EvaluationBuilder
from restune.evaluation.properties import PropertyColumns
from restune.evaluation.slices import corrected, find_slices, weak_clusters


def built(right, embeddings=None):
    """An evaluation of two classes that is right on the given items."""
    right = np.asarray(right)
    targets = np.arange(len(right)) % 2
    predicted = np.where(right, targets, 1 - targets)
    builder = EvaluationBuilder(("a", "b"))
    logits = torch.nn.functional.one_hot(torch.as_tensor(predicted), 2).float()
    rows = None if embeddings is None else torch.as_tensor(embeddings, dtype=torch.float32)
    builder.add([str(number) for number in range(len(right))], targets.tolist(), logits, rows)
    return builder.evaluation()


def test_p_values_are_fishers_corrected_by_holm():
    random = np.random.default_rng(0)
    right = random.random(300) < 0.8
    cameras = np.array(["x", "y", "z"])[random.integers(0, 3, 300)]
    right[cameras == "z"] &= random.random((cameras == "z").sum()) < 0.6
    found = {one.value: one for one in find_slices(built(right), {"camera": list(cameras)}, {})}
    raw = {}
    for value, one in found.items():
        chosen = cameras == value
        table = [[right[chosen].sum(), (~right[chosen]).sum()], [right[~chosen].sum(), (~right[~chosen]).sum()]]
        raw[value] = fisher_exact(table, alternative="less").pvalue
        assert one.n == chosen.sum()
        assert one.accuracy == pytest.approx(right[chosen].mean())
        assert one.elsewhere == pytest.approx(right[~chosen].mean())
    ordered = sorted(raw, key=raw.get)
    highest = 0
    for rank, value in enumerate(ordered):  # Holm 1979, by hand
        highest = max(highest, min(1, (3 - rank) * raw[value]))
        assert found[value].p == pytest.approx(highest)
    assert found["z"].is_worse
    assert next(iter(found)) == "z"


def test_corrected_values_are_at_least_those_of_a_weaker_correction():
    random = np.random.default_rng(1)
    slices = find_slices(built(random.random(200) < 0.7), {"c": [str(i) for i in random.integers(0, 8, 200)]}, {})
    again = corrected(slices)
    weaker = false_discovery_control([one.p for one in slices])
    assert all(one.p >= bound - 1e-12 for one, bound in zip(again, weaker, strict=True))


def test_numbers_become_quarters_and_rare_values_one_slice():
    values = [str(number) for number in range(100)]
    found = find_slices(built(np.arange(100) >= 25), {"age": values}, {})
    assert [one.n for one in found] == [25, 25, 25, 25]
    assert (found[0].value, found[0].accuracy) == ("0 to 24", 0)
    sites = [f"site {number}" for number in range(70)] + ["big"] * 30
    by_site = find_slices(built(np.ones(100, bool)), {"site": sites}, {})
    assert len(by_site) == 51
    assert {one.value: one.n for one in by_site}["(21 other values)"] == 21
    some = find_slices(built(np.ones(4, bool)), {"x": ["", "1", "2", ""]}, {})
    assert {one.value for one in some} == {"(empty)", "1", "2"}


def test_a_weak_cluster_is_found_and_described():
    random = np.random.default_rng(2)
    centres = np.eye(8)
    group = random.integers(0, 8, 800)
    embeddings = centres[group] + 0.1 * random.normal(size=(800, 8))
    right = random.random(800) < np.where(group == 3, 0.6, 0.95)
    found = [one for one in weak_clusters(built(right, embeddings)) if one.is_worse]
    members = {str(number) for number in np.flatnonzero(group == 3)}
    assert found
    assert all(set(one.items) <= members for one in found)
    assert sum(one.n for one in found) > 0.5 * len(members)


def test_where_nothing_is_weak_a_cluster_is_reported_in_at_most_one_of_twenty_sets():
    random = np.random.default_rng(3)
    alarms = 0
    for _ in range(60):
        evaluation = built(random.random(400) < 0.8, random.normal(size=(400, 6)))
        alarms += any(one.is_worse for one in weak_clusters(evaluation))
    assert alarms <= 7  # 3 expected at most; P(more than 7) is below 2%


def test_few_items_or_equal_ones_have_no_clusters():
    assert weak_clusters(built(np.ones(79, bool), np.random.default_rng(0).normal(size=(79, 4)))) == []
    assert weak_clusters(built(np.ones(100, bool))) == []
    assert len(weak_clusters(built(np.ones(100, bool), np.ones((100, 4))))) == 1


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run on bright and dark noise, and new images, of which the bright ones of camera B are labelled dark."""
    folder = tmp_path_factory.mktemp("slices")
    random = np.random.default_rng(0)
    for name in ("train", "new"):
        rows = []
        for number in range(120):
            bright, camera = number % 2, "B" if name == "new" and number % 4 == 3 else "A"
            width = 30 if number < 60 else 18
            pixels = random.integers(0, 100, (18, width, 3), dtype=np.uint8) + np.uint8(120 * bright)
            Image.fromarray(pixels).save(folder / f"{name}-{number}.png")
            label = "dark" if camera == "B" or not bright else "bright"
            rows.append([f"{name}-{number}.png", label, camera, number])
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", "label", "camera", "age"], *rows])
    run = restune.train(
        folder / "train.csv", model="resnet8", image_size=16, epochs=4, batch_size=16, out=folder / "run", workers=0
    )
    return folder / "new.csv", run.out


def test_the_command_slices_by_column_and_by_property(table, run):
    data, model = table
    done = run("evaluate", model, data, "--split", "all", "--by", "camera", "--by", "age", "--json")
    slices = json.loads(done.stdout.splitlines()[-1])["slices"]
    cameras = {one["value"]: one for one in slices if one["by"] == "camera"}
    assert cameras["B"]["n"] == 30
    assert cameras["B"]["accuracy"] < 0.5
    assert cameras["B"]["worse"]
    assert not cameras["A"]["worse"]
    assert sum(one["n"] for one in slices if one["by"] == "age") == 120
    shapes = {one["value"]: one["n"] for one in slices if one["by"] == "aspect ratio"}
    assert shapes == {"1 to 1": 60, "1.667 to 1.667": 60}
    assert {one["by"] for one in slices if one["source"] == "property"} >= {"brightness", "contrast", "sharpness"}
    printed = run("evaluate", model, data, "--split", "all", "--by", "camera").stdout
    assert "camera" in printed
    assert "significantly worse" in printed


def test_properties_are_those_of_the_pixels(table):
    data, model = table
    column = PropertyColumns("image")
    from restune.data.loader import read_batches
    from restune.data.sources import open_dataset

    loaded = restune.load(model)
    items = open_dataset(data).items[:10]
    for batch in read_batches(items, loaded.preprocess, batch_size=4, workers=0):
        column.add(batch)
    found = column.columns()
    grey = [np.asarray(Image.open(item.location.path).convert("RGB")).mean() for item in items]
    np.testing.assert_allclose(found["brightness"], grey, atol=3)
    assert found["size"].tolist() == [18] * 10


@pytest.mark.parametrize("suffix", ["parquet", "frame"])
def test_other_tables_have_columns_too(table, tmp_path, suffix):
    import pandas

    data, model = table
    frame = pandas.read_csv(data)
    options = DataOptions(root=data.parent)
    given = frame
    if suffix == "parquet":
        given = tmp_path / "new.parquet"
        frame.to_parquet(given)
    found = restune.evaluate(model, given, split="all", by="camera", data_options=options).slices
    assert {one.value: one.n for one in found if one.by == "camera"} == {"A": 90, "B": 30}


def test_texts_and_series_are_sliced_by_length(tmp_path):
    options = DataOptions(kind="text")
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        rows = [[f"{'good' if i % 2 else 'bad'} " + "word " * (i % 7), i % 2, i % 3] for i in range(60)]
        csv.writer(file).writerows([["text", "label", "site"], *rows])
    run = restune.train(tmp_path / "texts.csv", data_options=options, epochs=1, out=tmp_path / "run", workers=0)
    found = restune.evaluate(run.out, tmp_path / "texts.csv", split="all", by="site", data_options=options).slices
    assert sum(one.n for one in found if one.by == "site") == 60
    lengths = [one for one in found if one.by == "length"]
    assert len(lengths) > 1
    assert sum(one.n for one in lengths) == 60


@pytest.mark.parametrize(
    ("column", "words"), [("camra", "Did you mean 'camera'?"), ("site", "it has 'path', 'label', 'camera', 'age'")]
)
def test_an_unknown_column_is_one_message_before_anything_is_scored(table, run, column, words):
    failed = run("evaluate", table[1], table[0], "--by", column)
    assert failed.returncode == 2
    assert "there is no column" in failed.stderr
    assert words in failed.stderr
    assert "accuracy" not in failed.stdout


def test_a_folder_has_no_columns(photos, table, run):
    failed = run("evaluate", table[1], photos, "--by", "camera", "--class-order", "data")
    assert failed.returncode == 2
    assert "only tables have columns" in failed.stderr
