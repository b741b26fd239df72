"""A run goes on with the data, splits and classes that it began with, or says what is another."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import restune
from restune.data.dataset import ArrayLocation, Dataset, Item
from restune.data.splits import Splits
from restune.runs.split_record import SplitRecord, read_split_record, write_split_record
from restune.training.loop import Trainer

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 2, "batch_size": 8, "threads": 1, "precision": "fp32"}
SETTINGS = {"spec.width": 4, "spec.depths": [1, 1]}


class StoppedError(Exception):
    """As by a power cut."""


@pytest.fixture
def data(tmp_path, write_noise):
    folder = write_noise(tmp_path / "data", bright=(120, 30), dark=(0, 30))
    for path in folder.glob("*/*.png"):  # all of one size, as uncompressed files are
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    return folder


@pytest.fixture
def train(data, tmp_path):
    def call(**more):
        return restune.train(data, out=tmp_path / "run", set=SETTINGS, test=0.2, **SMALL, **more)

    return call


@pytest.fixture
def stopped(train, monkeypatch):
    """The folder of a run that ended before its first checkpoint."""

    def step(self, *arguments, **more):
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(StoppedError):
            train()


def item_of(folder, split):
    with (folder / "split.csv").open(newline="") as file:
        return next(row["item"] for row in csv.DictReader(file) if row["split"] == split)


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_exchanged_file_of_the_same_size_is_noticed(data, tmp_path, train, split):
    name = item_of(tmp_path / "run", split)
    size = (data / name).stat().st_size
    Image.new("RGB", (18, 18), (1, 2, 3)).save(data / name)
    assert (data / name).stat().st_size == size
    with pytest.raises(restune.UserError, match=rf"changed since this run began: {name} \({split}: its content is ano"):
        train(resume=True)
    assert train(resume=True, accept_changes=True).result["items"] == {"train": 38, "val": 10, "test": 12}


@pytest.mark.usefixtures("stopped")
def test_a_class_that_was_added_is_noticed(data, train):
    shutil.copytree(data / "dark", data / "black")
    with pytest.raises(restune.UserError, match="classes of the data changed since this run began: 'black' added"):
        train(resume=True)
    run = train(resume=True, accept_changes=True)
    assert run.result["classes"] == ["bright", "dark"]
    assert run.result["val"]["accuracy"] > 0.5, "targets are still those of the run's classes"


@pytest.mark.usefixtures("stopped")
def test_a_file_that_is_gone_names_the_ways_round(data, tmp_path, train):
    name = item_of(tmp_path / "run", "test")
    (data / name).unlink()
    with pytest.raises(restune.UserError, match="an item of this run is no longer in the data") as raised:
        train(resume=True)
    assert raised.value.where == name
    assert "restore it" in raised.value.fix
    assert "--out" in raised.value.fix


@pytest.mark.usefixtures("stopped")
def test_a_file_that_can_no_longer_be_read_is_not_left_out(data, tmp_path, train):
    name = item_of(tmp_path / "run", "val")
    (data / name).write_bytes(b"")
    with pytest.raises(restune.UserError, match="an item of this run can no longer be read") as raised:
        train(resume=True)
    assert raised.value.where == name


@pytest.mark.usefixtures("stopped")
def test_new_files_are_counted(data, tmp_path, train, capsys):
    shutil.copy(data / item_of(tmp_path / "run", "val"), data / "dark" / "new.bmp")
    run = train(resume=True)
    assert "the data has 61 items, 60 when this run began" in capsys.readouterr().err
    assert sum(run.result["items"].values()) == 60


@pytest.mark.usefixtures("stopped")
def test_a_run_without_a_record_goes_on_and_gets_one(tmp_path, train):
    (tmp_path / "run" / "split.json").unlink()
    run = train(resume=True)
    record = read_split_record(run.out)
    assert record.fingerprint("test") == run.result["test"]["fingerprint"]
    assert record.fingerprint("val") == run.result["val"]["fingerprint"]


def test_the_record_of_the_splits_is_json(tmp_path):
    """Written and read in parts: what `json` makes of it, odd names included."""
    names = ['"ids": [', "back\\slash", "\udcff.jpg", "a, ]", "我", "plain"] * 1000
    items = tuple(Item(f"{row}{name}", ArrayLocation(np.zeros((1, 2)), 0), row % 2) for row, name in enumerate(names))
    data = Dataset(items, ("a", "b"), "made")
    splits = Splits(train=data.take(np.arange(5000)), val=data.take(np.arange(5000, 6000)), test=None, left_out={})
    record = SplitRecord.of(splits, {items[3].id: "00ff00ff00ff00ff"}, total=6000)
    write_split_record(tmp_path, record)
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["splits"]["val"]["ids"] == [item.id for item in items[5000:]]
    assert content["splits"]["train"]["contents"][2:5] == ["", "00ff00ff00ff00ff", ""]
    assert content["splits"]["train"]["fingerprint"] == splits.train.fingerprint()
    read = read_split_record(tmp_path)
    assert (read.kind, read.classes, read.total) == ("image", ("a", "b"), 6000)
    for split, held in read.splits.items():
        for column in ("ids", "targets", "signatures", "contents"):
            assert list(getattr(held, column)) == content["splits"][split][column]
    assert not list(read.changes(record))
    moved = replace(read.splits["val"], targets=1 - read.splits["val"].targets)
    assert len(list(record.changes(replace(read, splits={**read.splits, "val": moved})))) == 1000
    (tmp_path / "split.json").write_text(json.dumps(content, separators=(",", ":")))
    assert list(read_split_record(tmp_path).splits["train"].ids) == content["splits"]["train"]["ids"]
    (tmp_path / "split.json").write_text('{"splits": {"train": {"ids": ["a", 3]}}}')
    with pytest.raises(restune.UserError, match="cannot be read"):
        read_split_record(tmp_path)
