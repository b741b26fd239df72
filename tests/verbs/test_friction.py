"""Small things that people meet daily: short reprs, recipes by kind, changes by name, mirroring, going on."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

import restune
import restune.verbs.quickstart as quickstart
from restune.core.interrupt import Interrupted
from restune.data.dataset import ArrayLocation, Dataset, Item
from restune.data.sources import open_dataset
from restune.inference.model import Prediction
from restune.runs.initial import resolve_augment
from restune.training.recipe import Recipe, read_recipe

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 1, "batch_size": 8, "threads": 1}
QUICK = {"spec.width": 4, "spec.depths": [1], "augment.policy": "none"}


@pytest.fixture
def shapes(tmp_path, write_noise):
    return write_noise(tmp_path / "shapes", (20, 24), bright=(120, 20), dark=(0, 20))


def test_reprs_are_a_line(shapes, tmp_path):
    run = restune.train(shapes, out=tmp_path / "run", set=QUICK, **SMALL)
    values = [
        run, run.model, restune.evaluate(run.out, shapes, split="val"), open_dataset(shapes),
        *restune.predict(run.out, shapes, topk=2)[:2], restune.embed(run.out, shapes),
        Prediction(input="a.jpg", error="it is empty"),
    ]  # fmt: skip
    for value in values:
        assert "\n" not in repr(value)
        assert len(repr(value)) < 300, repr(value)
    assert f"Run({str(run.out)!r}, resnet8, val accuracy " in repr(run)
    assert "Model(" in repr(run.model)
    assert "2 classes: bright, dark" in repr(run.model)
    assert "40 images, 2 classes: bright, dark" in repr(open_dataset(shapes))
    assert repr(values[-1]) == "Prediction('a.jpg', error='it is empty')"


def test_reprs_of_many_classes_and_large_arrays_are_short():
    names = tuple(f"class number {number}" for number in range(5000))
    array = np.zeros((1000, 8), np.float32)
    items = tuple(Item(id=str(n), location=ArrayLocation(array, n), target=n) for n in range(1000))
    assert len(repr(Dataset(items=items, classes=names, source="x"))) < 200
    assert len(repr(items[0])) < 200
    prediction = Prediction(input="a", label=names[0], probability=0.5, top=tuple((name, 0.1) for name in names))
    assert repr(prediction) == (
        "Prediction('a', 'class number 0' 50.0%; then 'class number 1' 10.0%, 'class number 2' 10.0%)"
    )


def test_a_recipe_shows_the_settings_of_its_kind_and_repeats_the_run(tmp_path):
    lines = tmp_path / "lines.txt"
    random = np.random.default_rng(0)
    words = {"good": ["fine", "great"], "bad": ["poor", "awful"]}
    rows = [f"{label} {' '.join(random.choice(words[label], 3))} {n}" for n in range(30) for label in words]
    lines.write_text("\n".join(rows))
    options = {"epochs": 1, "batch_size": 16, "threads": 1}
    data_options = restune.DataOptions(kind="text")
    first = restune.train(lines, out=tmp_path / "a", data_options=data_options, **options)
    stored = yaml.safe_load((first.out / "recipe.yaml").read_text())
    assert set(stored["augment"]) == {"drop_tokens", "repeats"}
    assert not {"signal", "video", "image_size", "store_size", "mixup", "cutmix"} & set(stored)
    assert stored["text"]["tokens"] in ("words", "bytes")
    report = (first.out / "report.html").read_text()
    assert "crop_scale" not in report
    assert "drop_tokens" in report
    again = restune.train(lines, out=tmp_path / "b", recipe=first.out / "recipe.yaml", data_options=data_options)
    one, other = (run.model.module.state_dict() for run in (first, again))
    assert all((one[name] == other[name]).all() for name in one)
    whole = tmp_path / "old.yaml"  # as stored before: every setting of every kind
    whole.write_text(read_recipe(first.out / "recipe.yaml").to_yaml())
    assert "crop_scale" in whole.read_text()
    assert read_recipe(whole) == read_recipe(first.out / "recipe.yaml")


def test_a_setting_of_another_kind_is_stored_if_it_is_not_the_default():
    recipe = Recipe().changed({"augment.erase": 0.5})
    content = yaml.safe_load(recipe.to_yaml(without={"augment.erase", "augment.warp", "text.length"}))
    assert content["augment"]["erase"] == 0.5
    assert "warp" not in content["augment"]
    assert "length" not in content["text"]


def test_a_changed_recipe_names_the_keys(shapes, tmp_path):
    restune.train(shapes, out=tmp_path / "run", set={**QUICK, "optimizer.lr": 0.05}, **SMALL)
    (tmp_path / "run" / "result.json").unlink()
    changed = {**QUICK, "optimizer.lr": 0.01, "augment.crop_scale": None, "monitor": "val_loss"}
    with pytest.raises(restune.UserError) as caught:
        restune.train(shapes, out=tmp_path / "run", resume=True, set=changed, **SMALL)
    assert "optimizer.lr 0.05 -> 0.01" in caught.value.what
    assert "monitor val_accuracy -> val_loss" in caught.value.what
    assert "momentum" not in caught.value.what
    assert len(caught.value.what) < 250


@pytest.mark.parametrize(
    ("classes", "mirrored"),
    [
        ("01", True), ("012", True), ("01234", True), ("ab", True), ("猫狗", True), ("0123456789", False),
        ("abcdefghijklmnopqrstuvwxyz", False), ("ABCDEFGHIK", False), (("ant", "bee"), True), (("a", "b", "10"), True),
    ],
)  # fmt: skip
def test_mirroring_is_off_for_characters_only(classes, mirrored, capsys):
    items = (Item(id="x", location=ArrayLocation(np.zeros((1, 8, 8)), 0), target=0),)
    dataset = Dataset(items=items, classes=tuple(classes), source="x")
    assert resolve_augment(Recipe(), dataset).flip is mirrored
    said = capsys.readouterr().err
    assert ("augment.flip" in said) == all(len(name) == 1 for name in classes), "the reason is printed"
    assert resolve_augment(Recipe().changed({"augment.flip": not mirrored}), dataset).flip is not mirrored


SHORT = {"train": {"epochs": 1, "batch_size": 256}, "finetune": {"views": 1}}
"""Changes to the three runs of the quickstart, to be quick."""
KILLED = f"""
import os, signal
import restune.verbs.quickstart as quickstart
original = quickstart._run
def run(verb, *arguments, **options):
    if verb == "finetune":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(verb, *arguments, **{{**options, **{SHORT!r}[verb]}})
quickstart._run = run
quickstart.quickstart()
"""


@pytest.mark.slow
def test_quickstart_goes_on_after_a_kill(tmp_path, run, monkeypatch):
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "runs" / "quickstart-001" / "train-0-4" / "model.safetensors"
    trained = model.stat().st_mtime_ns
    original = quickstart._run

    def interrupted(verb, data, out, settings, **options):
        if out.name == "train-all":
            raise Interrupted(signal.SIGTERM, out)
        return original(verb, data, out, settings, **{**options, **SHORT[verb]})

    monkeypatch.setattr(quickstart, "_run", interrupted)
    stopped = run("quickstart", "--resume")
    assert stopped.returncode == 143, stopped.stderr
    assert "train-0-4 is finished; nothing to do" in stopped.stderr
    command = "restune quickstart --out runs/quickstart-001 --resume"
    assert stopped.stderr.endswith(f"to resume: {command}\n")
    monkeypatch.setattr(quickstart, "_run", lambda verb, *a, **k: original(verb, *a, **{**k, **SHORT[verb]}))
    done = run(*command.split()[1:])
    assert done.returncode == 0, done.stderr
    assert "finetune-5-9 is finished; nothing to do" in done.stderr
    assert model.stat().st_mtime_ns == trained
    assert "all ten digits" in done.stdout
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["quickstart-001"]
