"""Every score equals scikit-learn's or torchmetrics' on any logits: absent classes, ties, one class, one item."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as peers
import torch
import torchmetrics.functional.classification as torch_peers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restune.evaluation.calibration import fit_calibration
from restune.evaluation.evaluation import EvaluationBuilder, load_evaluation
from restune.evaluation.ranking import _log_probabilities

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def evaluated(logits, targets):
    names = tuple(f"c{number}" for number in range(logits.shape[1]))
    builder = EvaluationBuilder(names)
    ids = [str(number) for number in range(len(targets))]
    builder.add(ids, list(map(int, targets)), torch.tensor(logits, dtype=torch.float32))
    return builder.evaluation()


@st.composite
def scored(draw):
    """Logits and targets, some of few distinct values, so that many are equal; not every class occurs."""
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 12))
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    logits = random.normal(size=(n, classes)) * draw(st.sampled_from([0.1, 1.0, 8.0]))
    if draw(st.booleans()):
        logits = logits.round()
    targets = random.integers(0, draw(st.integers(1, classes)), n)
    return logits.astype(np.float32), targets


@quick
@given(scored())
def test_scores_of_predictions_are_scikit_learns(case):
    logits, targets = case
    evaluation = evaluated(logits, targets)
    values, predicted = evaluation.measures.values, evaluation.predicted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = peers.cohen_kappa_score(targets, predicted)
        expected = {
            "accuracy": peers.accuracy_score(targets, predicted),
            "balanced_accuracy": peers.balanced_accuracy_score(targets, predicted),
            "macro_f1": peers.f1_score(targets, predicted, average="macro", zero_division=0),
            "weighted_f1": peers.f1_score(targets, predicted, average="weighted", zero_division=0),
            "mcc": peers.matthews_corrcoef(targets, predicted),
        }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, abs=1e-12), name
    assert (values["kappa"] is None) == bool(np.isnan(kappa))
    assert values["kappa"] is None or values["kappa"] == pytest.approx(kappa, abs=1e-12)
    classes = logits.shape[1]
    f1 = torch_peers.multiclass_f1_score(
        torch.tensor(predicted), torch.tensor(targets), num_classes=classes, average="weighted"
    )
    assert values["weighted_f1"] == pytest.approx(float(f1), abs=1e-5)


@quick
@given(scored())
def test_scores_of_probabilities_are_scikit_learns(case):
    logits, targets = case
    evaluation, classes = evaluated(logits, targets), logits.shape[1]
    values = evaluation.measures.values
    p = torch.tensor(logits).double().softmax(dim=1).numpy()
    logits, target = torch.tensor(logits).double(), torch.tensor(targets)
    assert values["nll"] == pytest.approx(torch.nn.functional.cross_entropy(logits, target).item(), rel=1e-9)
    if p.min() > 1e-15:  # below, scikit-learn's is cut off
        assert values["nll"] == pytest.approx(peers.log_loss(targets, p, labels=range(classes)), rel=1e-9)
    truth = np.eye(classes)[targets]
    assert values["brier"] == pytest.approx(((p - truth) ** 2).sum(axis=1).mean(), abs=1e-12)
    brier = peers.brier_score_loss(targets, p, labels=range(classes), scale_by_half=False)
    assert values["brier"] == pytest.approx(brier, abs=1e-9)
    logits = case[0]
    distinct = all(len(np.unique(row)) == classes for row in logits)
    for k in evaluation.measures.topk:
        ours = values[f"top{k}"]
        first = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        assert ours == pytest.approx((first == targets[:, None]).any(axis=1).mean())
        if distinct and classes > 2:  # among equal logits, scikit-learn goes by another order
            theirs = peers.top_k_accuracy_score(targets, logits, k=k, labels=range(classes))
            assert ours == pytest.approx(theirs)


@quick
@given(scored())
def test_ranking_is_scikit_learns_in_every_class(case):
    logits, targets = case
    evaluation, classes = evaluated(logits, targets), logits.shape[1]
    auroc, average = evaluation.measures.ranking
    p = np.concatenate([block for _, block in _log_probabilities(logits, 1.0)], axis=1)  # equal ones to the last bit
    assert np.allclose(p, torch.tensor(logits).double().log_softmax(dim=1), atol=1e-12)
    areas, averages = [], []
    for place in range(classes):
        truth = targets == place
        if truth.all() or not truth.any():
            assert np.isnan(auroc.value[place])
            continue
        areas.append(peers.roc_auc_score(truth, p[:, place]))
        averages.append(peers.average_precision_score(truth, p[:, place]))
        assert auroc.value[place] == pytest.approx(areas[-1], abs=1e-12)
        assert average.value[place] == pytest.approx(averages[-1], abs=1e-12)
        for score in (auroc, average):
            assert score.low[place] <= score.value[place] + 1e-12
            assert score.value[place] <= score.high[place] + 1e-12
    assert auroc.macro == (None if not areas else pytest.approx(np.mean(areas)))
    assert average.macro == (None if not averages else pytest.approx(np.mean(averages)))


@quick
@given(scored())
def test_every_score_has_an_interval_around_it_and_is_json(case):
    evaluation = evaluated(*case)
    measures = evaluation.measures
    assert set(measures.intervals) == set(measures.values)
    for name, value in measures.values.items():
        interval = measures.intervals[name]
        assert (value is None) == (interval is None), name
        if interval is not None and name not in ("ece", "macro_f1", "kappa", "mcc", "weighted_f1", "aurc"):
            assert interval[0] - 1e-9 <= value <= interval[1] + 1e-9, (name, value, interval)
        assert interval is None or interval[0] <= interval[1]
    content = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert set(content["per_class"]["c0"]) >= {"f1_interval", "precision_interval", "auroc", "auroc_interval"}


def test_small_blocks_of_classes_change_nothing(monkeypatch):
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(60, 9)).astype(np.float32), random.integers(0, 9, 60)
    whole = evaluated(logits, targets).measures
    monkeypatch.setattr("restune.evaluation.ranking._BYTES", 60 * 8 * 2)
    monkeypatch.setattr("restune.evaluation.items._BYTES", 100)
    monkeypatch.setattr("restune.evaluation.intervals._AT_ONCE", 60 * 7)
    parts = evaluated(logits, targets).measures
    assert dict(parts.values) == pytest.approx(dict(whole.values), rel=1e-12)
    assert np.array_equal(parts.ranking[0].low, whole.ranking[0].low)
    assert parts.intervals["auroc"] == whole.intervals["auroc"]


def test_a_perfect_score_of_few_items_is_not_certain():
    """Ten of ten right show no spread to resample, but do not prove a perfect model."""
    logits = np.eye(2, dtype=np.float32)[[0, 1] * 5] * 4
    measures = evaluated(logits, np.array([0, 1] * 5)).measures
    low = 1 - 1.959963984540054**2 / (10 + 1.959963984540054**2)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc", "kappa", "auroc"):
        assert measures.values[name] == 1.0
        assert measures.intervals[name][1] == pytest.approx(1.0)
        assert measures.intervals[name][0] <= low + 0.08, name
        assert measures.intervals[name][0] < 0.85, name


def test_confusions_come_most_frequent_first():
    predicted, targets = [1, 1, 1, 2, 0, 2], [0, 0, 2, 2, 0, 1]
    logits = np.eye(3, dtype=np.float32)[predicted]
    evaluation = evaluated(logits, np.array(targets))
    assert evaluation.most_confused[0] == (0, 1, 2)
    assert {pair[2] for pair in evaluation.most_confused[1:]} == {1}
    assert evaluation.to_dict()["most_confused"][0] == {"true": "c0", "predicted": "c1", "n": 2}


@pytest.fixture
def calibrated():
    random = np.random.default_rng(3)
    logits = (random.normal(size=(400, 4)) * 6).astype(np.float32)
    targets = (logits / 4 + random.gumbel(size=logits.shape)).argmax(axis=1)
    evaluation = evaluated(logits, targets)
    return evaluation.calibrated(fit_calibration(evaluation.logits, evaluation.targets, evaluation.predicted))


def test_a_calibrated_evaluation_is_saved_and_read_back(calibrated, tmp_path):
    back = load_evaluation(calibrated.save(tmp_path / "e.npz"))
    assert back.calibration == calibrated.calibration
    assert np.array_equal(back.probabilities, calibrated.probabilities)
    assert np.array_equal(back.logits, calibrated.logits), "logits are saved as the network gives them"
    assert back.to_dict() == calibrated.to_dict()


def test_an_evaluation_saved_without_calibration_is_read(calibrated, tmp_path, monkeypatch):
    """As an older version wrote it: `about` has no entry for it."""
    from restune.evaluation.logits import read_array, write_arrays

    path = calibrated.calibrated(None).save(tmp_path / "e.npz")
    arrays = {name: np.array(read_array(path, name)) for name in ("ids", "targets", "logits", "classes")}
    about = json.loads(read_array(path, "about").tobytes())
    del about["calibration"]
    write_arrays(path, {**arrays, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
    back = load_evaluation(path)
    assert back.calibration is None
    assert np.array_equal(back.predicted, calibrated.predicted)
    content = back.to_dict()
    assert "conformal" not in content
    assert content["calibration"]["temperature"] is None
    assert "after" not in content["calibration"]


def test_calibration_changes_probabilities_and_no_prediction(calibrated):
    bare = calibrated.calibrated(None)
    assert np.array_equal(bare.predicted, calibrated.predicted)
    assert calibrated.calibration.temperature == pytest.approx(4, rel=0.25)
    assert not np.allclose(bare.probabilities, calibrated.probabilities, atol=0.05)
    p = torch.tensor(np.array(calibrated.logits) / calibrated.calibration.temperature).softmax(1)
    assert np.allclose(calibrated.probabilities, p.max(1).values, atol=1e-6)
    content = calibrated.to_dict()
    assert content["nll"] == content["calibration"]["after"]["nll"] < content["calibration"]["before"]["nll"]
    assert content["ece"] == content["calibration"]["after"]["ece"] < content["calibration"]["before"]["ece"]


def test_logits_of_minus_infinity_leave_scores_finite():
    """Mean probabilities of views can round to 0 in evaluations of older versions."""
    logits = np.array([[0.0, -np.inf], [0.0, -np.inf], [-np.inf, 0.0]], np.float32)
    content = evaluated(logits, np.array([0, 1, 1])).to_dict()
    json.dumps(content, allow_nan=False)
    assert math.isfinite(content["nll"])
