"""Scores of multi-label classification and regression against scikit-learn and by hand."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics as peers
from hypothesis import given, settings
from hypothesis import strategies as st

import restune
from restune.data.targets import Outputs, TargetScale
from restune.evaluation.evaluation import load_evaluation
from restune.evaluation.label_metrics import (
    Ranking,
    average_precision,
    best_thresholds,
    bootstrap,
    regression_scores,
)
from restune.evaluation.multilabel import MultiLabelEvaluation
from restune.evaluation.regression import RegressionEvaluation

warnings.filterwarnings("ignore", category=peers._classification.UndefinedMetricWarning)
LABELS = ("a", "b", "c", "d")


def labelled(seed, count=60, ties=False):
    """Random labels, the rarest missing at times, and logits that partly follow them."""
    random = np.random.default_rng(seed)
    targets = (random.random((count, 4)) < (0.5, 0.3, 0.1, 0.03)).astype(np.float32)
    logits = (random.normal(size=(count, 4)) + 1.5 * targets - 1).astype(np.float32)
    return targets, np.round(logits) if ties else logits


def evaluation(targets, logits, thresholds=None):
    rows = {"ids": tuple(map(str, range(len(targets)))), "targets": targets, "logits": logits}
    return MultiLabelEvaluation.of(LABELS, rows, Outputs("multi-label", thresholds), model="m", data="d")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_multi_label_scores_are_scikit_learns(seed, ties):
    targets, logits = labelled(seed, ties=ties)
    scored = evaluation(targets, logits, (0.5, 0.2, 0.3, 0.1))
    is_true, predicted = targets.astype(int), (scored.probabilities >= np.float32((0.5, 0.2, 0.3, 0.1))).astype(int)
    there = np.flatnonzero(is_true.any(axis=0))
    precisions = [peers.average_precision_score(is_true[:, c], logits[:, c]) for c in there]
    assert scored.map == pytest.approx(np.mean(precisions))
    used = np.flatnonzero(is_true.any(axis=0) | predicted.any(axis=0))
    f1 = peers.f1_score(is_true, predicted, average=None, zero_division=0)
    assert scored.macro_f1 == pytest.approx(f1[used].mean())
    assert scored.micro_f1 == pytest.approx(peers.f1_score(is_true, predicted, average="micro", zero_division=0))
    assert scored.subset_accuracy == pytest.approx(peers.accuracy_score(is_true, predicted))
    assert scored.hamming_loss == pytest.approx(peers.hamming_loss(is_true, predicted))
    for place, name in enumerate(LABELS):
        one = scored.per_label[name]
        assert (one.n, one.predicted) == (is_true[:, place].sum(), predicted[:, place].sum())
        if 0 < one.n < len(targets):
            assert one.average_precision == pytest.approx(
                peers.average_precision_score(is_true[:, place], logits[:, place])
            )
            assert one.auroc == pytest.approx(peers.roc_auc_score(is_true[:, place], logits[:, place]))
        else:
            assert one.auroc is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_regression_scores_are_scikit_learns(seed, width):
    random = np.random.default_rng(seed)
    targets = (random.normal(size=(40, width)) * 10.0 ** np.arange(width) + 5).astype(np.float32)
    scale = TargetScale.of(targets[:20])
    outputs = (scale.standardized(targets) + 0.5 * random.normal(size=targets.shape)).astype(np.float32)
    rows = {"ids": tuple(map(str, range(40))), "targets": targets, "logits": outputs}
    scored = RegressionEvaluation.of(tuple("xyz"[:width]), rows, Outputs("regression", None, scale))
    values = outputs * np.array(scale.std) + np.array(scale.mean)
    assert scored.values == pytest.approx(values, rel=1e-5)
    assert scored.mae == pytest.approx(peers.mean_absolute_error(targets, values), rel=1e-4)
    assert scored.rmse == pytest.approx(peers.root_mean_squared_error(targets, values), rel=1e-4)
    assert scored.r2 == pytest.approx(peers.r2_score(targets, values), rel=1e-4)
    guess = np.broadcast_to(targets[:20].mean(axis=0), targets.shape)
    for place, one in enumerate(scored.per_target.values()):
        assert one.mae == pytest.approx(peers.mean_absolute_error(targets[:, place], values[:, place]), rel=1e-4)
        assert one.baseline["mae"] == pytest.approx(
            peers.mean_absolute_error(targets[:, place], guess[:, place]), rel=1e-4
        )
        assert one.intervals["mae"][0] < one.mae < one.intervals["mae"][1]


def test_scores_by_hand():
    targets = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    logits = np.array([[2.0, -1.0], [-1.0, -2.0], [1.0, -3.0]], np.float32)
    scored = MultiLabelEvaluation.of(
        ("a", "b"), {"ids": ("1", "2", "3"), "targets": targets, "logits": logits}, Outputs("multi-label")
    )
    # Label a is ranked 1, 3, 2: precisions 1/1 and 2/3. Label b is ranked 1, 2, 3: precision 1/2.
    assert scored.average_precisions.tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 2])
    # Predicted at 0.5: a of items 1 and 3, nothing else. Right: a of 1; missed: a of 2, b of 2; wrong: a of 3.
    assert scored.hamming_loss == pytest.approx(3 / 6)
    assert (scored.subset_correct, scored.micro_f1) == (1, pytest.approx(2 * 1 / (3 + 2)))
    numbers = regression_scores(np.array([[1.0], [3.0]]), np.array([[2.0], [3.0]]))
    assert [float(numbers[name][0, 0]) for name in ("mae", "rmse", "r2")] == pytest.approx([0.5, 0.5**0.5, 0.5])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_resample_equals_scoring_the_drawn_items(seed):
    """The weights of a resample give what scikit-learn gives for the items drawn."""
    targets, logits = labelled(seed, ties=True)
    drawn = np.random.default_rng(seed).integers(0, len(targets), len(targets))
    weights = np.bincount(drawn, minlength=len(targets))[None].astype(float)
    is_true = targets[:, 0] > 0.5
    ours = average_precision(Ranking.of(logits[:, 0]), is_true, weights)[0]
    if is_true[drawn].any():
        assert ours == pytest.approx(peers.average_precision_score(is_true[drawn], logits[drawn, 0]))
    ours = regression_scores(targets[:, :2].astype(float), logits[:, :2].astype(float), weights)
    if targets[drawn, :2].std(axis=0).min() > 0:
        theirs = peers.r2_score(targets[drawn, :2], logits[drawn, :2], multioutput="raw_values")
        assert ours["r2"][0] == pytest.approx(theirs)


def test_bootstrap_intervals_cover():
    """Of 200 samples, about 95% of the intervals of the mean absolute error contain the true one."""
    random, hits = np.random.default_rng(1), 0
    for _ in range(200):
        errors = np.abs(random.normal(size=(80, 1)))
        low, high = bootstrap(lambda weights, e=errors: weights @ e / weights.sum(axis=1, keepdims=True), 80, 10**4)
        hits += low[0] <= (2 / np.pi) ** 0.5 <= high[0]
    assert 0.89 <= hits / 200 <= 0.985


def test_intervals_of_the_mean_average_precision_cover():
    """Of 60 samples of four labels that are hard to rank, the intervals contain the score of 100,000 items."""
    random, hits = np.random.default_rng(2), 0

    def sample(count):
        targets = (random.random((count, 4)) < 0.2).astype(np.float32)
        return targets, (random.normal(size=targets.shape) + 0.3 * targets).astype(np.float32)

    truth = evaluation(*sample(100_000)).map
    for _ in range(60):
        scored = evaluation(*sample(250))
        assert scored.map_interval[0] <= scored.map <= scored.map_interval[1]
        hits += scored.map_interval[0] <= truth <= scored.map_interval[1]
    assert hits >= 52


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_thresholds_are_the_best_of_all(seed):
    targets, logits = labelled(seed)
    scored = evaluation(targets, logits)
    chosen = scored.with_best_thresholds()
    for place, name in enumerate(LABELS):
        scores = scored.probabilities[:, place].astype(float)
        is_true = targets[:, place].astype(int)
        if is_true.any():
            tried = [peers.f1_score(is_true, scores >= one, zero_division=0) for one in scores]
            assert chosen.per_label[name].f1 == pytest.approx(max(tried))
        else:
            assert chosen.thresholds[place] == 0.5
    assert best_thresholds(np.array([[0.4], [0.9]]), np.array([[True], [True]])) == (0.5,)


def test_evaluations_are_saved_and_read(tmp_path):
    targets, logits = labelled(3)
    scored = evaluation(targets, logits).with_best_thresholds()
    back = load_evaluation(scored.save(tmp_path / "labels.npz"))
    assert isinstance(back, MultiLabelEvaluation)
    assert back.to_dict() == scored.to_dict()
    json.dumps(back.to_dict(), allow_nan=False)
    scale = TargetScale((1.0, 2.0), (3.0, 4.0))
    rows = {"ids": ("a", "b"), "targets": targets[:2, :2], "logits": logits[:2, :2]}
    numbers = RegressionEvaluation.of(("x", "y"), rows, Outputs("regression", None, scale))
    back = load_evaluation(numbers.save(tmp_path / "numbers.npz"))
    assert back.to_dict() == numbers.to_dict()
    json.dumps(back.to_dict(), allow_nan=False)
    with pytest.raises(restune.UserError, match="npz"):
        scored.save(tmp_path / "labels.txt")
