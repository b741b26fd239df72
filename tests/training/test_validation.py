"""Every validation and test item counts once: failed reads are repeated, lost items are an error or are named."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch

import restune
from restune.data import loader, preload
from restune.data.dataset import Dataset, FileLocation
from restune.data.preload import Preloaded
from restune.training import linear_probe
from restune.training.distributed import World
from restune.training.loop import Trainer
from restune.training.recipe import Recipe
from restune.training.validation import Validation

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 3, "batch_size": 8, "threads": 1, "precision": "fp32"}
SETTINGS = {"spec.width": 4, "spec.depths": [1, 1], "checkpoint.every_steps": 2}


@pytest.fixture
def data(tmp_path, write_noise):
    return write_noise(tmp_path / "data", bright=(120, 30), dark=(0, 30))


@pytest.fixture(autouse=True)
def _from_disk(monkeypatch):
    """Nothing is kept in memory, and nobody waits."""
    monkeypatch.setattr(preload, "MEMORY_SHARE", 0)
    for module in (loader, linear_probe):
        monkeypatch.setattr(module, "RETRY_PAUSES", (0.0, 0.0, 0.0))


def items_of(folder, split):
    with (folder / "split.csv").open(newline="") as file:
        return [row["item"] for row in csv.DictReader(file) if row["split"] == split]


def fail_to_read(monkeypatch, begins, chosen, times):
    """From the first step on, the first `times` reads of each chosen item fail."""
    started, failed = [], {}
    train, read = Trainer.run, FileLocation.read

    def begin(self):
        started.append(True)
        return train(self)

    def flaky(self):
        name = f"{self.path.parent.name}/{self.path.name}"
        if started and name in chosen(begins) and failed.get(name, 0) < times:
            failed[name] = failed.get(name, 0) + 1
            raise OSError(5, "Input/output error")
        return read(self)

    monkeypatch.setattr(Trainer, "run", begin)
    monkeypatch.setattr(FileLocation, "read", flaky)
    return failed


def test_a_read_that_fails_for_a_moment_changes_no_score(data, tmp_path, monkeypatch):
    whole = restune.train(data, out=tmp_path / "whole", set=SETTINGS, test=0.2, **SMALL)
    failed = fail_to_read(
        monkeypatch, tmp_path / "run", lambda folder: items_of(folder, "val") + items_of(folder, "test"), times=2
    )
    run = restune.train(data, out=tmp_path / "run", set=SETTINGS, test=0.2, **SMALL)
    assert len(failed) == 10 + 12
    assert (run.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()
    assert {name: run.result[name] for name in ("val", "test")} == {
        name: whole.result[name] for name in ("val", "test")
    }
    assert run.result["val"]["n"] == run.result["items"]["val"] == 10


@pytest.mark.parametrize("freeze", [None, "all"])
def test_an_item_that_stays_unreadable_stops_the_run_and_it_goes_on(data, tmp_path, monkeypatch, freeze):
    """In validation, and where a head is fitted on features of items that vanish after they were split."""
    if freeze is None:
        fit, options = restune.train, SMALL
    else:
        start = restune.train(data, out=tmp_path / "start", set=SETTINGS, **SMALL)
        keep = {key: value for key, value in SMALL.items() if key not in ("model", "epochs", "batch_size")}
        fit, options = restune.finetune, {**keep, "weights": start.out, "freeze": "auto", "epochs": 3, "batch_size": 8}
    settings = {"checkpoint.every_steps": 2} if freeze else SETTINGS
    whole = fit(data, out=tmp_path / "whole", set=settings, **options)
    with monkeypatch.context() as patch:
        if freeze is None:
            fail_to_read(patch, tmp_path / "run", lambda folder: items_of(folder, "val")[:1], times=99)
        else:
            lose_after_split(patch, tmp_path / "run")
        with pytest.raises(restune.UserError, match="could be read before cannot be now: Input/output error") as raised:
            fit(data, out=tmp_path / "run", set=settings, **options)
    assert raised.value.where == items_of(tmp_path / "run", "val")[0]
    assert "--resume" in raised.value.fix
    resumed = fit(data, out=tmp_path / "run", resume=True, set=settings, **options)
    assert (resumed.out / "metrics.jsonl").read_bytes() == (whole.out / "metrics.jsonl").read_bytes()
    assert resumed.result["val"]["n"] == 12


def lose_after_split(patch, folder):
    """Once split.csv is there, its first validation item cannot be read."""
    read = FileLocation.read

    def lost(self):
        if (folder / "split.csv").exists():
            name = f"{self.path.parent.name}/{self.path.name}"
            if name == items_of(folder, "val")[0]:
                raise OSError(5, "Input/output error")
        return read(self)

    patch.setattr(FileLocation, "read", lost)


def test_no_items_have_no_score(data):
    network = restune.create_model("resnet8", num_classes=2, width=4)
    none = Dataset(items=(), classes=("bright", "dark"), source="nothing")
    recipe = Recipe(batch_size=8, precision="fp32", memory_format="contiguous")
    validation = Validation(
        none, restune.ImagePreprocess(crop=16), Preloaded(), recipe, torch.device("cpu"), World()
    )  # fmt: skip
    assert validation(network) == {"n": 0}


def at_first_step(monkeypatch, action):
    original = Trainer._step

    def step(self, *arguments, **more):
        if self.state.step == 0:
            action()
        return original(self, *arguments, **more)

    monkeypatch.setattr(Trainer, "_step", step)


def test_items_that_vanish_or_change_during_the_run_are_in_its_result(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"

    def spoil():
        gone, other = items_of(out, "test")[:2]
        (data / gone).unlink(missing_ok=True)
        restune_bytes = (data / items_of(out, "train")[0]).read_bytes()
        (data / other).write_bytes(restune_bytes + b"1")

    at_first_step(monkeypatch, spoil)
    run = restune.train(data, out=out, set=SETTINGS, test=0.2, **SMALL)
    errors = capsys.readouterr().err
    gone, other = items_of(out, "test")[:2]
    result = json.loads((out / "result.json").read_text())
    assert result["test"]["n"] == result["items"]["test"] - 1 == 11
    assert [lost["item"] for lost in result["test"]["skipped"]] == [gone]
    assert [(one["split"], one["item"]) for one in result["changed"]] == [("test", gone), ("test", other)]
    assert result["changed"][0]["what"] == "it is gone"
    assert f"1 of 12 test items can no longer be read and are not in the test score: {gone}" in errors
    assert "2 items of this run changed while it ran" in errors
    report = (run.out / "report.html").read_text()
    assert "1 more can no longer be read" in report
    assert "Changed during the run" in report
    assert "skipped" not in result["val"]


def test_a_score_of_which_every_item_is_lost_is_an_error_and_only_the_scores_are_repeated(data, tmp_path, monkeypatch):
    out, aside = tmp_path / "run", tmp_path / "aside"

    def take_away():
        for name in items_of(out, "test"):
            if (data / name).exists():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(data / name, aside / name)

    with monkeypatch.context() as patch:
        at_first_step(patch, take_away)
        with pytest.raises(restune.UserError, match="no test score: no item of this data could be read") as raised:
            restune.train(data, out=out, set=SETTINGS, test=0.2, **SMALL)
    assert "--resume" in raised.value.fix
    assert not (out / "result.json").exists()
    shutil.copytree(aside, data, dirs_exist_ok=True)
    run = restune.train(data, out=out, set=SETTINGS, test=0.2, resume=True, **SMALL)
    assert run.result["test"]["n"] == 12
    assert run.result["changed"] == []
