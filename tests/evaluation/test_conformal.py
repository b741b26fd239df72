"""Prediction sets: MAPIE's on the same probabilities, and their coverage on fresh draws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

import restune
from restune.evaluation.conformal import LEVELS, _rounded_down, conformal_thresholds, set_scores
from restune.inference.forward import prediction_sets


def drawn(random, n, classes=4, sharpness=1.5):
    """Probabilities and classes drawn from them; the last class is rare."""
    prior = np.array([1.0] * (classes - 1) + [-1.5])
    logits = random.normal(size=(n, classes)) * sharpness + prior
    targets = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    return logits.astype(np.float32), targets


def true_of(logits, targets):
    return torch.tensor(logits).softmax(1).numpy()[np.arange(len(targets)), targets]


class _Known:
    """A classifier for MAPIE that answers with given probabilities: rows of X are logits."""

    def __init__(self, classes):
        self.classes_ = np.arange(classes)

    def fit(self, _x, _y):
        return self

    def predict_proba(self, x):
        return torch.tensor(x).softmax(1).numpy()

    def predict(self, x):
        return x.argmax(1)

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.95])
def test_sets_are_mapies(coverage):
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    known = type("Known", (ClassifierMixin, BaseEstimator, _Known), {})
    random = np.random.default_rng(0)
    (fit, fit_targets), (new, _) = drawn(random, 300), drawn(random, 500)
    mapie = SplitConformalClassifier(
        estimator=known(4), confidence_level=coverage, conformity_score="lac", prefit=True
    ).conformalize(fit, fit_targets)
    _, theirs = mapie.predict_set(new)
    thresholds = conformal_thresholds(true_of(fit, fit_targets), fit_targets, 4)
    p = torch.tensor(new).softmax(1)
    ours = prediction_sets(p, thresholds.at(coverage)).numpy()
    theirs = theirs[:, :, 0] | (np.arange(4) == p.argmax(1).numpy()[:, None])  # ours hold the likeliest class always
    assert (ours != theirs).sum() <= 1, "a probability within six digits of the threshold"


def test_sets_cover_as_often_as_wanted():
    """The mean over 300 validation sets, and for every class with thresholds of its own."""
    random = np.random.default_rng(1)
    logits, targets = drawn(random, 40_000)
    marginal, by_class, rows = [], [], []
    for _ in range(300):
        fit, fit_targets = drawn(random, 200)
        thresholds = conformal_thresholds(true_of(fit, fit_targets), fit_targets, 4)
        part = random.integers(0, 40_000, 1000)
        marginal.append(set_scores(logits[part], targets[part], thresholds.at(0.9)).coverage)
        scores = set_scores(logits[part], targets[part], thresholds.at(0.9, class_conditional=True))
        by_class.append([scores.covered[targets[part] == place].mean() for place in range(4)])
        rows.append(set_scores(logits[part], targets[part], thresholds.at(0.9)).covered[targets[part] == 3].mean())
    assert np.mean(marginal) == pytest.approx(0.9, abs=0.01)
    assert min(np.mean(by_class, axis=0)) >= 0.895
    assert np.mean(rows) < 0.85, "thresholds for all classes cover the rare class less often"


def test_thresholds_by_hand():
    """Of 9 items the least probability covers 90% of new ones: rank floor(10 * 0.1) = 1."""
    true = np.array([0.9, 0.2, 0.5, 0.8, 0.7, 0.6, 0.95, 0.4, 0.3], np.float32)
    targets = np.zeros(9, int)
    thresholds = conformal_thresholds(true, targets, 2)
    assert thresholds.at(0.9) == pytest.approx(0.2, abs=1e-6)
    assert thresholds.at(0.8) == pytest.approx(0.3, abs=1e-6)
    assert thresholds.at(0.805) == thresholds.at(0.81), "the next level that is stored"
    assert thresholds.at(0.91) == 0, "nine items cannot show more than 90%"
    assert thresholds.at(0.5, class_conditional=True)[1] == 0, "a class without items"
    for wrong in (0, 1, -1, 2):
        with pytest.raises(restune.UserError, match="cannot be wanted"):
            thresholds.at(wrong)
    with pytest.raises(restune.UserError, match=r"up to a coverage of 0\.999"):
        thresholds.at(0.9999)
    assert len(thresholds.marginal) == len(LEVELS)


def test_no_set_is_empty_and_a_threshold_of_0_holds_every_class():
    p = torch.tensor([[0.4, 0.35, 0.25]])
    assert prediction_sets(p, 0.9).tolist() == [[True, False, False]]
    assert prediction_sets(p, 0.0).all()
    assert prediction_sets(p, (0.9, 0.3, 0.3)).tolist() == [[True, True, False]]


def test_very_many_classes_have_no_thresholds_of_their_own():
    thresholds = conformal_thresholds(np.full(5, 0.5, np.float32), np.arange(5), 3000)
    assert thresholds.class_conditional is None
    with pytest.raises(restune.UserError, match="too many classes"):
        thresholds.at(0.9, class_conditional=True)


def test_rounding_never_raises_a_threshold():
    random = np.random.default_rng(0)
    for value in [*random.uniform(size=500), *10.0 ** random.uniform(-30, 0, 500), 1.0, 0.1, 0.0]:
        assert 0 <= value - _rounded_down(float(value)) <= 2e-5 * value


def test_coverage_of_a_sample_by_hand():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]], np.float32))
    scores = set_scores(logits, np.array([0, 2]), 0.3)
    assert scores.sizes.tolist() == [1, 2]
    assert scores.covered.tolist() == [True, False]
    low, high = scipy.stats.binomtest(1, 2).proportion_ci(0.95, method="wilson")
    assert scores.to_dict()["coverage_interval"] == pytest.approx([low, high])
    assert (scores.coverage, scores.mean_size) == (0.5, 1.5)
