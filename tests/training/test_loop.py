"""The trainer's face: few methods, and a callback after each epoch that may stop the run."""

from __future__ import annotations

import inspect
import json
import threading
import time

import pytest
import torch

import restune
from restune.training import checkpoint
from restune.training.checkpoint_writer import CheckpointWriter
from restune.training.loop import Trainer

SMALL = {"model": "resnet8", "image_size": 16, "epochs": 4, "batch_size": 8, "threads": 1, "precision": "fp32"}
SETTINGS = {"spec.width": 4, "spec.depths": [1, 1], "ema.decay": 0.9}


class PrunedError(Exception):
    """A callback's own exception."""


@pytest.fixture
def data(tmp_path, write_noise):
    return write_noise(tmp_path / "data", bright=(120, 30), dark=(0, 30))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, write_noise):
    """A run on images like `data`, from its beginning to its end."""
    folder = tmp_path_factory.mktemp("whole")
    data = write_noise(folder / "data", bright=(120, 30), dark=(0, 30))
    return restune.train(data, out=folder / "run", set=SETTINGS, **SMALL)


def call(monkeypatch, on_epoch):
    """Have trainers call `on_epoch`."""
    original = Trainer.__init__
    monkeypatch.setattr(Trainer, "__init__", lambda self, **more: original(self, **{**more, "on_epoch": on_epoch}))


def tensors(run):
    return {name: value.clone() for name, value in run.model.module.state_dict().items()}


def metrics(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_public_face_is_small():
    members = inspect.getmembers(Trainer, lambda member: inspect.isfunction(member) or isinstance(member, property))
    public = [name for name, _member in members if not name.startswith("_")]
    assert {"run", "resume", "begin_at"} <= set(public)
    assert len(public) < 10


def test_on_epoch_comes_after_each_checkpoint_with_the_epochs_metrics(data, tmp_path, monkeypatch):
    events, records = [], []

    def on_epoch(record):
        events.append(("on_epoch", record.epoch))
        records.append(record)
        assert metrics(tmp_path / "run")[-1]["epoch"] == record.epoch
        assert threading.current_thread() is threading.main_thread()

    write = CheckpointWriter.write

    def logged_write(self, state, **more):
        events.append(("checkpoint", state.epoch))
        write(self, state, **more)

    call(monkeypatch, on_epoch)
    monkeypatch.setattr(CheckpointWriter, "write", logged_write)
    run = restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)
    assert events == [(what, epoch) for epoch in (1, 2, 3, 4) for what in ("checkpoint", "on_epoch")]
    assert [record.to_dict() for record in records] == metrics(run.out)
    assert all(None not in (record.val_loss, record.val_accuracy) for record in records)
    best = records[run.result["best_epoch"] - 1]
    assert best.val_accuracy == max(record.val_accuracy for record in records)


def test_on_epoch_is_not_called_for_a_fitted_head(data, tmp_path, monkeypatch):
    start = restune.train(data, out=tmp_path / "start", set=SETTINGS, **SMALL)
    epochs = []
    call(monkeypatch, lambda record: epochs.append(record.epoch))
    run = restune.finetune(
        data, weights=start.out, out=tmp_path / "run", freeze="auto", epochs=2, batch_size=8, image_size=16, threads=1
    )
    assert [record["epoch"] for record in metrics(run.out)] == [0, *epochs]
    assert epochs[0] == 1


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_an_exception_in_on_epoch_stops_a_run_that_can_be_resumed(data, whole, tmp_path, monkeypatch, epoch):
    """The checkpoint takes a while to write; the exception comes when it is written and its thread has ended."""
    write = checkpoint.write_checkpoint

    def slow_write(folder, state):
        time.sleep(0.3)
        return write(folder, state)

    def prune(record):
        if record.epoch == epoch:
            raise PrunedError

    with monkeypatch.context() as patch:
        call(patch, prune)
        patch.setattr(checkpoint, "write_checkpoint", slow_write)
        with pytest.raises(PrunedError):
            restune.train(data, out=tmp_path / "run", set=SETTINGS, **SMALL)
    state = checkpoint.read_checkpoint(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert (state.epoch, state.batches) == (epoch, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]
    assert not (tmp_path / "run" / "result.json").exists()
    resumed = restune.train(data, out=tmp_path / "run", resume=True, set=SETTINGS, **SMALL)
    assert resumed.result["resumed_from_step"] == state.step
    assert all(torch.equal(value, tensors(whole)[name]) for name, value in tensors(resumed).items())
    assert (whole.out / "metrics.jsonl").read_bytes() == (resumed.out / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("accuracies", "epochs", "best"),
    [
        ((0.5, 0.55, 0.6, 0.64, 0.66, 0.9), 4, 4),  # 0.64 is not 0.2 above 0.5: stops, and is still the best
        ((0.5, 0.6, 0.65, 0.75, 0.76, 0.77), 6, 6),  # 0.75 is: small gains add up, and the count begins anew
        ((0.5, 0.4, 0.5, 0.3, 0.9, 0.9), 4, 3),  # the tie at epoch 3 has the lower loss
    ],
)
def test_min_delta_is_for_patience_and_does_not_decide_which_weights_are_kept(
    data, tmp_path, monkeypatch, accuracies, epochs, best
):
    class Planned:
        def __init__(self, *_arguments):
            self.left = iter(accuracies)

        def __call__(self, _network, _features):
            accuracy = next(self.left)
            scores = dict.fromkeys(("val_accuracy", "val_balanced_accuracy", "val_macro_f1"), accuracy)
            return {**scores, "val_loss": 1.0 - accuracy, "n": 12}

    monkeypatch.setattr("restune.runs.fit.Validation", Planned)
    patience = {"early_stopping.patience": 3, "early_stopping.min_delta": 0.2}
    options = {**SMALL, "epochs": len(accuracies)}
    run = restune.train(data, out=tmp_path / "run", set={**SETTINGS, **patience}, **options)
    assert (run.result["epochs"], run.result["best_epoch"]) == (epochs, best)
