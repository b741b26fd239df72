"""Runs that are logged to TensorBoard and to MLflow, read back by these tools."""

from __future__ import annotations

import json

import pytest

import restune

OPTIONS = {"model": "resnet8", "image_size": 16, "batch_size": 8, "workers": 0, "set": {"spec.width": 4}}
EPOCHS = 3


@pytest.fixture(scope="module")
def noise(tmp_path_factory, write_noise):
    return write_noise(tmp_path_factory.mktemp("tracked") / "noise", bright=(120, 10), dark=(0, 10))


def stopped_and_resumed(data, out, tool):
    """Train two epochs, stop while the second is reported, resume without naming the tool."""

    def stop(record):
        if record.epoch == 2:
            raise KeyError("stop")

    with pytest.raises(KeyError):
        restune.train(data, epochs=EPOCHS, out=out, track=tool, on_epoch=stop, test=0.2, **OPTIONS)
    run = restune.train(data, epochs=EPOCHS, out=out, resume=True, test=0.2, **OPTIONS)
    return run, [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_reads_every_epoch_once_over_a_resume(noise, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no TensorBoard")
    run, records = stopped_and_resumed(noise, tmp_path / "run", "tensorboard")
    log = events.EventAccumulator(str(run.out / "tensorboard")).Reload()
    for tag, name in (("train/loss", "train_loss"), ("val/accuracy", "val_accuracy"), ("train/lr", "lr")):
        found = [(event.step, event.value) for event in log.Scalars(tag)]
        assert found == [(one["step"], pytest.approx(one[name])) for one in records], tag
    assert log.Scalars("final/test_accuracy")[-1].value == pytest.approx(run.result["test"]["accuracy"])
    assert any("hparams" in tag for tag in log.summary_metadata), "settings are on the HPARAMS page"


def test_mlflow_in_sqlite_has_settings_and_every_epoch_once_over_a_resume(noise, tmp_path, monkeypatch):
    for module in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    run, records = stopped_and_resumed(noise, tmp_path / "run", "mlflow")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (logged,) = client.search_runs([client.get_experiment_by_name("restune").experiment_id])
    assert (logged.info.run_name, logged.info.status) == ("run", "FINISHED")
    assert logged.data.params["optimizer.lr"] == str(run.model.info.training["recipe"]["optimizer"]["lr"])
    for key, name in (("train/loss", "train_loss"), ("val/accuracy", "val_accuracy"), ("train/lr", "lr")):
        found = [(metric.step, metric.value) for metric in client.get_metric_history(logged.info.run_id, key)]
        assert found == [(one["step"], pytest.approx(one[name])) for one in records], key
    assert logged.data.metrics["final/test_accuracy"] == run.result["test"]["accuracy"]
    assert {path.name for path in tmp_path.iterdir()} == {"run", "mlflow.db"}


def test_a_tool_that_is_missing_or_unknown_is_named_before_the_data_is_read(run, monkeypatch):
    import importlib.util

    answer = run("train", "digits", "--track", "wandb")
    assert answer.returncode == 2
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else found(name, *more)
    )
    answer = run("train", "digits", "--track", "mlflow")
    assert answer.returncode == 2
    assert "pip install 'restune[track]'" in answer.stderr
