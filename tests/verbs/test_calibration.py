"""A run calibrates its model on its validation items; evaluate and predict use it: one probability everywhere."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import torch

import restune
from restune.evaluation.calibration import fit_calibration
from restune.evaluation.evaluation import load_evaluation
from restune.weights.bundle import read_info

SMALL = {"image_size": 16, "batch_size": 16, "threads": 1, "precision": "fp32", "workers": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_noise):
    """Bright and half-bright noise overlap, so that some are mistaken."""
    folder = tmp_path_factory.mktemp("noise")
    return write_noise(folder / "data", (16, 16), bright=(90, 60), dark=(0, 60), grey=(82, 60))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A network trained from scratch, and a head fitted on it."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"spec.width": 4, "spec.depths": [1, 1]}
    run = restune.train(
        data, model="resnet8", epochs=6, val=0.3, test=0.3, out=folder / "train", set=settings, **SMALL
    )  # fmt: skip
    head = restune.finetune(
        data, weights=run.out, freeze="all", val=0.3, test=0.3, out=folder / "head", image_size=16, threads=1
    )  # fmt: skip
    return {"train": run, "head": head}


@pytest.mark.parametrize("kind", ["train", "head"])
def test_a_run_calibrates_its_model_on_its_validation_items(trained, kind):
    run = trained[kind]
    calibration = read_info(run.out / "model.safetensors").calibration
    val = load_evaluation(run.out / "evaluation" / "val.npz")
    assert calibration == fit_calibration(val.logits, val.targets, val.predicted)
    assert calibration == val.calibration == load_evaluation(run.out / "evaluation" / "test.npz").calibration
    assert calibration.n == val.n > 30
    assert calibration.nll[1] < calibration.nll[0]
    assert run.result["val"]["nll"] == pytest.approx(calibration.nll[1])
    assert run.result["val"]["ece"] == pytest.approx(calibration.ece[1])


@pytest.mark.parametrize("kind", ["train", "head"])
def test_evaluate_and_predict_give_the_same_calibrated_probabilities(trained, data, kind):
    run = trained[kind]
    scored = restune.evaluate(run.out, data)
    predictions = restune.predict(run.out, [data / item for item in scored.ids], topk=3)
    assert [p.label for p in predictions] == [scored.classes[place] for place in scored.predicted]
    assert [p.probability for p in predictions] == pytest.approx(scored.probabilities.tolist(), abs=1e-5)
    temperature = run.model.calibration.temperature
    assert temperature != 1
    expected = torch.tensor(np.array(scored.logits) / temperature).softmax(dim=1).max(dim=1).values
    assert np.allclose(scored.probabilities, expected, atol=1e-6)
    saved = load_evaluation(run.out / "evaluation" / "test.npz")
    assert np.allclose(saved.logits, scored.logits, atol=0.1), "raw logits are saved"
    assert not np.allclose(saved.logits, scored.logits / temperature, atol=0.1)


def test_views_are_calibrated_after_averaging(trained, data):
    model = trained["train"].model
    scored = restune.evaluate(model, data, views="five-crop")
    predicted = restune.predict(model, [data / item for item in scored.ids[:9]], views="five-crop")
    assert [p.probability for p in predicted] == pytest.approx(scored.probabilities[:9].tolist(), abs=1e-5)
    content = scored.to_dict()
    assert content["calibration"]["after"]["nll"] == content["nll"]
    assert content["conformal"]["marginal"]["mean_size"] >= 1
    temperature = model.calibration.temperature
    logits = torch.randn(4, 5, 3)
    p = logits.softmax(2).mean(1) ** (1 / temperature)
    assert torch.allclose(model.probabilities(logits), p / p.sum(1, keepdim=True), atol=1e-5)


def test_a_run_without_validation_items_says_that_it_is_not_calibrated(data, tmp_path, capsys, run):
    done = restune.train(
        data, model="resnet8", epochs=1, val=0, monitor="train_loss", out=tmp_path / "run",
        set={"spec.width": 4, "spec.depths": [1]}, **SMALL,
    )  # fmt: skip
    assert "probabilities are not calibrated: the run has no validation items (--val)" in capsys.readouterr().err
    assert done.model.calibration is None
    content = restune.evaluate(done.out, data, split="train").to_dict()
    assert content["calibration"]["temperature"] is None
    assert "conformal" not in content
    assert content["abstention"]["threshold"] is None
    asked = run("predict", done.out, data, "--coverage", "0.9")
    assert asked.returncode == 2
    assert "this model is not calibrated" in asked.stderr
    warned = run("predict", done.out, data, "--threshold", "0.9", "--json")
    assert warned.returncode == 0
    assert "compared with the network's own probabilities" in warned.stderr


def test_predict_abstains_below_the_threshold(trained, data, run):
    plain = json.loads(run("predict", trained["train"].out, data, "--json").stdout)["predictions"]
    assert all("abstained" not in one and "prediction_set" not in one for one in plain)
    middle = sorted(one["probability"] for one in plain)[len(plain) // 2]
    done = run("predict", trained["train"].out, data, "--json", "--threshold", middle)
    found = json.loads(done.stdout)["predictions"]
    assert sum(one["abstained"] for one in found) == len(plain) // 2
    for before, after in zip(plain, found, strict=True):
        assert (after["top"], after["probability"]) == (before["top"], before["probability"])
        assert after["abstained"] == (before["probability"] < middle)
        assert after["label"] == (None if after["abstained"] else before["label"])
    shown = run("predict", trained["train"].out, data, "--threshold", middle).stdout
    assert shown.count("abstained") == len(plain) // 2
    for wrong in ("1.5", "-1"):
        refused = run("predict", trained["train"].out, data, "--threshold", wrong)
        assert refused.returncode == 2
        assert "is not a probability" in refused.stderr


def test_predict_lists_prediction_sets(trained, data, run):
    model, scored = trained["train"].model, restune.evaluate(trained["train"].out, data, coverage=0.95)
    files = [str(data / item) for item in scored.ids]
    done = run("predict", trained["train"].out, *files, "--json", "--coverage", "0.95")
    found = json.loads(done.stdout)["predictions"]
    assert np.mean([len(one["prediction_set"]) for one in found]) == scored.measures.sets().mean_size
    covered = [scored.classes[t] in one["prediction_set"] for t, one in zip(scored.targets, found, strict=True)]
    assert np.array_equal(covered, scored.measures.sets().covered)
    assert all(one["prediction_set"][0] == one["label"] for one in found)
    by_class = model.predict(files, coverage=0.95, class_conditional=True)
    sizes = [len(one.prediction_set) for one in by_class]
    assert np.array_equal(sizes, scored.measures.sets(class_conditional=True).sizes)
    for wrong in (("--coverage", "1"), ("--coverage", "0.9999"), ("--class-conditional",)):
        assert run("predict", trained["train"].out, files[0], *wrong).returncode == 2


def test_csv_has_columns_for_what_was_asked_for(trained, data, run):
    arguments = ("predict", trained["train"].out, data, "--csv", "--threshold", "0.9999", "--coverage", "0.9")
    rows = list(csv.DictReader(io.StringIO(run(*arguments).stdout)))
    wanted = ["input", "label", "probability", "error", "abstained", "prediction_set"]
    assert list(rows[0]) == [*wanted, "novel", "novelty"]
    assert {row["abstained"] for row in rows} <= {"true", "false"}
    assert all((row["label"] == "") == (row["abstained"] == "true") for row in rows)
    assert all(row["prediction_set"].split("|")[0] in ("bright", "dark", "grey") for row in rows)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_evaluate_says_what_the_probabilities_are_worth(trained, data, run, monkeypatch, lang):
    monkeypatch.setenv("COLUMNS", "80")
    done = run("evaluate", trained["train"].out, data, "--lang", lang, "--target-precision", "0.6")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    words = {
        "en": ("accuracy", "probabilities: calibration error", "--threshold", "0.9 prediction sets", "Cohen's kappa"),
        "zh": ("准确率", "概率：校准误差", "--threshold", "0.9 预测集", "Cohen kappa 系数"),
    }[lang]
    assert lines[0].startswith(words[0])
    for word in words[1:]:
        assert word in done.stdout, word
    content = json.loads(run("evaluate", trained["train"].out, data, "--json").stdout)
    for key in (
        "nll",
        "brier",
        "ece",
        "balanced_accuracy",
        "macro_f1",
        "auroc",
        "calibration",
        "abstention",
        "conformal",
    ):
        assert key in content
    assert set(content["intervals"]) >= {"accuracy", "nll", "brier", "ece", "auroc", "mcc", "kappa", "macro_f1"}
    for option in (("--coverage", "0"), ("--target-precision", "1")):
        assert run("evaluate", trained["train"].out, data, *option).returncode == 2
