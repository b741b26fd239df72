"""With --quiet, standard error has warnings and errors only; results are on standard output."""

from __future__ import annotations

import pytest


@pytest.fixture
def trained(run, write_noise, tmp_path):
    data = write_noise(tmp_path / "data", dark=(0, 20), light=(120, 20))
    words = ("--model", "resnet8", "--epochs", 1, "--image-size", 16, "--set", "spec.width=4", "--quiet")
    return data, run("train", data, *words, "--out", tmp_path / "run"), tmp_path / "run"


def test_every_verb_is_quiet(run, trained, tmp_path, monkeypatch):
    data, training, folder = trained
    monkeypatch.chdir(tmp_path)
    tuning = run("finetune", data, "--weights", folder, "--freeze", "all", "--quiet")
    for done in (
        training,
        tuning,
        run("evaluate", folder, data, "--split", "val", "--quiet"),
        run("predict", folder, data, "--quiet"),
        run("predict", folder, data, "--csv", "--quiet"),
        run("embed", folder, data, "--quiet"),
        run("models", "resnet18", "--quiet"),
        run("cache", "--quiet"),
        run("bench", "resnet8", "--seconds", "0.01", "--batch-size", "2", "--quiet"),
    ):
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", done.args
        assert done.stdout != ""
    assert training.stdout.splitlines()[0].startswith("validation accuracy")
    assert training.stdout.splitlines()[-1] == f"run {folder}"


def test_warnings_stay(run, trained):
    data, _, folder = trained
    done = run("evaluate", folder, data, "--split", "train", "--quiet")
    assert done.stderr.startswith("warning: ")
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines())
