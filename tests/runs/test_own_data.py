"""On the data that a run was made from its held-out items are scored; training items never pass for new ones."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

import restune

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 1, "batch_size": 8, "threads": 1, "precision": "fp32"}
SETTINGS = {"spec.width": 4, "spec.depths": [1, 1]}


def noise(folder, seed, counts):
    """Uncompressed images, all of one size."""
    random = np.random.default_rng(seed)
    for name, (least, count) in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(least, least + 130, (18, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.bmp")
    return folder


COUNTS = {"bright": (60, 30), "dark": (40, 30)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with validation and test items, and one broken file, and its data."""
    folder = tmp_path_factory.mktemp("own")
    data = noise(folder / "data", 0, COUNTS)
    (data / "dark" / "broken.bmp").write_bytes(b"")
    run = restune.train(data, out=folder / "run", set=SETTINGS, test=0.2, **SMALL)
    return run, data


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_held_out_splits_are_scored_as_the_run_did(made, split, capsys):
    run, data = made
    scored = restune.evaluate(run.out, data, split=split)
    assert (scored.n, scored.accuracy) == (run.result["items"][split], run.result[split]["accuracy"])
    assert scored.fingerprint == run.result[split]["fingerprint"]
    errors = capsys.readouterr().err
    assert f"(train 38, val 10, test 12); the {split} items are scored" in errors
    assert "warning" not in errors


def test_the_test_items_by_default_wherever_the_data_is(made, tmp_path, capsys):
    """From Python with a loaded model, too; a broken file that training had left out stops nothing."""
    run, data = made
    shutil.copytree(data, tmp_path / "elsewhere")
    for model in (run.out, run.out / "model.safetensors", run.model):
        scored = restune.evaluate(model, tmp_path / "elsewhere")
        assert scored.fingerprint == run.result["test"]["fingerprint"]
    assert capsys.readouterr().err.count("the test items are scored") == 3


@pytest.mark.parametrize(("split", "n"), [("train", 38), ("all", 60)])
def test_training_items_are_scored_with_a_warning(made, split, n, capsys):
    run, data = made
    assert restune.evaluate(run.out, data, split=split).n == n
    assert f"warning: 38 items of the {n} scored trained this model" in capsys.readouterr().err


def test_training_items_under_other_names(made, tmp_path, capsys):
    run, data = made
    mixed = noise(tmp_path / "mixed", 1, {"bright": (60, 5), "dark": (40, 5)})
    train = [item for item in restune_items(run, "train") if item.startswith("dark/")][:3]
    for number, name in enumerate(train):
        shutil.copy(data / name, mixed / "dark" / f"other {number}.bmp")
    assert restune.evaluate(run.out, mixed).n == 13
    assert "warning: 3 items of the 13 scored trained this model" in capsys.readouterr().err


def restune_items(run, split):
    return json.loads((run.out / "split.json").read_text())["splits"][split]["ids"]


def test_other_data_with_the_same_names_and_sizes_is_new_data(made, tmp_path, capsys):
    run, _data = made
    other = noise(tmp_path / "other", 7, COUNTS)
    assert restune.evaluate(run.out, other).n == 60
    errors = capsys.readouterr().err
    assert "made from" not in errors
    assert "warning" not in errors


def test_a_model_away_from_its_run_scores_all(made, tmp_path, capsys):
    run, data = made
    shutil.copy(run.out / "model.safetensors", tmp_path / "model.safetensors")
    assert restune.evaluate(tmp_path / "model.safetensors", data, on_corrupt="skip").n == 60
    assert "made from" not in capsys.readouterr().err


def test_items_of_the_split_that_are_gone_are_named(made, tmp_path, capsys):
    run, data = made
    less = shutil.copytree(data, tmp_path / "less")
    gone = restune_items(run, "test")[0]
    (less / gone).unlink()
    assert restune.evaluate(run.out, less).n == 11
    assert f"warning: 1 of the 12 items are no longer in this data: {gone}" in capsys.readouterr().err


def test_a_split_that_the_run_does_not_have(made, tmp_path):
    _run, data = made
    without = restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)
    assert restune.evaluate(without.out, data).n == 12
    with pytest.raises(restune.UserError, match="no test items") as raised:
        restune.evaluate(without.out, data, split="test")
    assert "train 48, val 12" in raised.value.fix


def test_test_data_of_its_own_is_recognised(made, tmp_path, capsys):
    _run, data = made
    test = noise(tmp_path / "test", 5, COUNTS)
    run = restune.train(data, out=tmp_path / "run", set=SETTINGS, test=str(test), **SMALL)
    capsys.readouterr()
    assert restune.evaluate(run.out, test).accuracy == run.result["test"]["accuracy"]
    assert "(test 60); the test items are scored" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["root", "no header", "test data"])
def test_the_commands_that_training_suggests_work(made, tmp_path, run, form):
    _run, data = made
    images = sorted(path for path in data.glob("*/*.bmp") if path.name != "broken.bmp")
    rows = [f"{path.relative_to(data)},{path.parent.name}" for path in images]
    header = [] if form == "no header" else ["picture,colour"]
    table = (data if form == "no header" else tmp_path) / f"{form}.csv"
    table.write_text("\n".join([*header, *rows]) + "\n")
    words = {
        "root": [table, "--root", data, "--path-column", "picture", "--label-column", "colour"],
        "no header": [table, "--no-header", "--path-column", "0", "--label-column", "1", "--kind", "image"],
        "test data": [data, "--test", noise(tmp_path / "test data", 5, COUNTS)],
    }[form]
    settings = ["--set", "spec.width=4", "--epochs", "1", "--image-size", "16", "--batch-size", "8"]
    trained = run("train", *words, "--model", "resnet8", *settings, "--out", tmp_path / "a run")
    assert trained.returncode == 0, trained.stderr
    lines = [shlex.split(line) for line in trained.stdout.splitlines() if line.startswith("  ")]
    assert [line[:2] for line in lines] == [
        ["open", str(tmp_path / "a run" / "report.html")], ["restune", "evaluate"], ["restune", "predict"]
    ]  # fmt: skip
    assert (tmp_path / "a run" / "report.html").exists()
    evaluated = run(*lines[1][1:], "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    result = json.loads((tmp_path / "a run" / "result.json").read_text())
    split = "test" if form == "test data" else "val"
    scored = json.loads(evaluated.stdout)
    assert (scored["n"], scored["accuracy"]) == (result[split]["n"], result[split]["accuracy"])
    assert "trained this model" not in evaluated.stderr
    predicted = run(*[str(images[0]) if word == "YOUR_IMAGES" else word for word in lines[2][1:]])
    assert predicted.returncode == 0, predicted.stderr
