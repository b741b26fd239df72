"""Abstention: risk and coverage by hand, and thresholds that keep their promise on fresh draws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import restune
from restune.evaluation.abstention import CertainFirst, Selective, _chance, needed_items, risk_curve, threshold_for
from restune.weights.calibration import RiskCurve


def test_risk_and_coverage_by_hand():
    """Two items share a probability: no threshold tells them apart."""
    confidence = np.array([0.9, 0.5, 0.7, 0.7], np.float32)
    is_right = np.array([True, False, False, True])
    ranked = CertainFirst(confidence, is_right)
    assert ranked.curve() == [[0.25, 0.0, 0.9], [0.75, 0.333333, 0.7], [1.0, 0.5, 0.5]]
    assert ranked.areas(np.ones((1, 4)))[0] == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 2) / 4)
    twice = np.array([[2.0, 0, 1, 1]])  # as if the first item were there twice and the second not at all
    assert ranked.areas(twice)[0] == pytest.approx((0 + 0 + 1 / 4 + 1 / 4) / 4)


def test_the_area_of_a_perfect_order_is_the_least():
    random = np.random.default_rng(0)
    is_right = random.uniform(size=500) < 0.8
    order = CertainFirst(np.where(is_right, 0.9, 0.2).astype(np.float32), is_right).areas(np.ones((1, 500)))[0]
    luck = CertainFirst(random.uniform(size=500).astype(np.float32), is_right).areas(np.ones((1, 500)))[0]
    assert order < 0.06 < 0.2 < luck


def test_the_curve_counts_what_a_threshold_answers():
    random = np.random.default_rng(1)
    confidence = random.beta(5, 1, 800).astype(np.float32)
    is_right = random.uniform(size=800) < confidence
    curve = risk_curve(confidence, is_right)
    assert RiskCurve.from_dict(curve.__dict__) == curve
    assert list(curve.thresholds) == sorted(set(curve.thresholds))
    for threshold, answered, correct in zip(curve.thresholds, curve.answered, curve.correct, strict=True):
        counted = Selective.at(threshold, confidence, is_right)
        assert (counted.answered, counted.correct) == (answered, correct)


def test_the_test_of_a_threshold_is_the_binomial_one():
    for answered, correct, precision in (
        (300, 300, 0.99),
        (500, 497, 0.99),
        (40, 30, 0.8),
        (1, 0, 0.5),
        (9000, 8990, 0.99),
    ):
        theirs = scipy.stats.binomtest(correct, answered, precision, alternative="greater").pvalue
        assert _chance(answered, correct, precision) == pytest.approx(theirs, rel=1e-6)
    assert needed_items(0.99) == 299
    assert _chance(299, 299, 0.99) <= 0.05 < _chance(298, 298, 0.99)


@pytest.mark.parametrize(
    ("n", "wanted", "sureness"), [(300, 0.9, (3, 2.5)), (2000, 0.99, (6, 3)), (12_000, 0.99, (6, 3))]
)
def test_thresholds_hold_the_wanted_precision_on_fresh_draws(n, wanted, sureness):
    """Of 200 validation sets at most about 5% give a threshold whose true precision is lower; most give one."""
    random = np.random.default_rng(0)

    def draw(count):
        logit = random.normal(*sureness, count)
        confidence = 1 / (1 + np.exp(-np.abs(logit)))
        return confidence.astype(np.float32), random.uniform(size=count) < confidence

    truth_confidence, truth_right = draw(1_000_000)
    order = np.argsort(-truth_confidence)
    precision = np.cumsum(truth_right[order]) / np.arange(1, len(order) + 1)
    falling = -truth_confidence[order]
    broken = found = 0
    for _ in range(200 if n < 10_000 else 100):
        confidence, is_right = draw(n)
        curve = risk_curve(confidence, is_right)
        place = threshold_for(curve, wanted, n)
        if place is None:
            continue
        found += 1
        answered = np.searchsorted(falling, -np.float32(curve.thresholds[place]), side="right")
        broken += precision[answered - 1] < wanted
    assert found > 75
    assert broken <= scipy.stats.binom.ppf(0.999, found, 0.05)


def test_too_few_items_show_no_high_precision():
    confidence = np.linspace(0.9, 1, 200, dtype=np.float32)
    curve = risk_curve(confidence, np.ones(200, bool))
    assert threshold_for(curve, 0.99, 200) is None
    place = threshold_for(curve, 0.95, 200)
    assert curve.answered[place] == 200
    for wrong in (0, 1, 1.5, -1):
        with pytest.raises(restune.UserError, match="cannot be promised"):
            threshold_for(curve, wrong, 200)
