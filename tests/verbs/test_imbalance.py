"""Imbalanced classes: the baseline is printed, scores that count classes alike are shown and can be monitored."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics

import restune
from restune.evaluation.metrics import balanced_scores

SMALL = {"model": "resnet8", "image_size": 16, "batch_size": 16, "workers": 0, "precision": "fp32"}
QUICK = {"augment.crop_scale": None, "augment.policy": "none", "optimizer.lr": 0.02}


@pytest.fixture
def parts(tmp_path, write_noise):
    """Fifty good parts for each defect, of the same look: whatever is learnt, the commonest class wins."""
    return write_noise(tmp_path / "parts", good=(60, 250), defect=(60, 5))


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    targets, predicted = random.integers(0, 6, 40), random.integers(0, 7, 40)
    targets[targets == 3], predicted[predicted == 3] = 2, 4  # class 3 is neither there nor predicted
    right = targets[targets == predicted]
    counts = [np.bincount(values, minlength=8) for values in (right, targets, predicted)]
    balanced, macro_f1 = balanced_scores(*counts)
    assert macro_f1 == pytest.approx(sklearn.metrics.f1_score(targets, predicted, average="macro", zero_division=0))
    with pytest.warns(UserWarning, match="not in y_true") if set(predicted) - set(targets) else _nothing():
        expected = sklearn.metrics.balanced_accuracy_score(targets, predicted)
    assert balanced == pytest.approx(expected)


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


def test_the_baseline_and_the_settings_are_named(parts, tmp_path, capsys):
    run = restune.train(parts, epochs=1, out=tmp_path / "run", set=QUICK, **SMALL)
    said = capsys.readouterr().err
    assert "always predicting 'good' scores 98.04% accuracy and 50.00% balanced accuracy" in said
    assert "sampling=balanced" in said
    assert "class_weights=balanced" in said
    assert "--monitor val_balanced_accuracy" in said
    assert "balanced " in next(line for line in said.splitlines() if line.startswith("epoch 1"))
    record = json.loads((run.out / "metrics.jsonl").read_text().splitlines()[0])
    assert {"val_balanced_accuracy", "val_macro_f1"} <= set(record)
    assert run.result["val"]["balanced_accuracy"] == pytest.approx(record["val_balanced_accuracy"])
    assert run.result["val"]["macro_f1"] == pytest.approx(record["val_macro_f1"])
    assert "balanced accuracy" in (run.out / "report.html").read_text()


def test_balanced_data_is_not_lectured(tmp_path, write_noise, capsys):
    data = write_noise(tmp_path / "data", bright=(120, 12), dark=(0, 12))
    restune.train(data, epochs=1, out=tmp_path / "run", set=QUICK, **SMALL)
    said = capsys.readouterr().err
    assert "imbalanced" not in said
    assert "macro F1" not in said


@pytest.mark.slow
@pytest.mark.parametrize("monitor", ["val_balanced_accuracy", "val_macro_f1"])
def test_the_best_epoch_follows_the_monitored_score(parts, tmp_path, monitor):
    run = restune.train(parts, epochs=4, monitor=monitor, out=tmp_path / "run", set=QUICK, **SMALL)
    records = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    scores = [record[monitor] for record in records]
    assert run.result["best_epoch"] == 1 + int(np.argmax(scores))


def test_a_fitted_head_has_the_scores_too(parts, tmp_path):
    weights = restune.train(parts, epochs=1, out=tmp_path / "run", set=QUICK, **SMALL).out
    run = restune.finetune(parts, weights=weights, freeze="all", monitor="val_macro_f1", out=tmp_path / "head")
    record = json.loads((run.out / "metrics.jsonl").read_text())
    for name in ("balanced_accuracy", "macro_f1"):
        assert record[f"val_{name}"] == pytest.approx(run.result["val"][name])
    evaluation = restune.evaluate(run.out, parts)
    assert evaluation.macro_f1 == pytest.approx(run.result["val"]["macro_f1"])
    assert evaluation.to_dict()["balanced_accuracy"] == pytest.approx(run.result["val"]["balanced_accuracy"])
