"""The learning curve: it finds a known power law, and its intervals cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from restune.evaluation.learning_curve import CurvePoints, fit_power_law, learning_curve

SIZES = np.array([12, 20, 33, 55, 90, 150, 245, 400])


def simulated(seed, a=0.8, b=0.5, c=0.06, items=444, noise=0.12, sizes=SIZES):
    """Points of a known law: items of different difficulty, and heads whose accuracy varies with their labels."""
    random = np.random.default_rng(seed)
    luck = noise / np.sqrt(sizes) * random.standard_normal(len(sizes)) * np.sqrt(sizes / items)
    error = np.clip(c + a * sizes**-b + luck, 0, 1)
    hardness = random.random((items, 1))
    correct = (hardness > error).astype(float)  # an item that is right stays right with more labels
    return CurvePoints(sizes=sizes, correct=correct, noise=noise / np.sqrt(sizes), heads=40)


def test_a_law_without_noise_is_found():
    hardness = (np.arange(20_000) + 0.5)[:, None] / 20_000
    correct = (hardness > 0.06 + 0.8 * SIZES**-0.5).astype(float)
    points = CurvePoints(sizes=SIZES, correct=correct, noise=np.full(8, 1e-3), heads=40)
    curve = learning_curve(points, 444, [444, 4440])
    for gain in curve.gains:
        true = 0.8 * (444**-0.5 - (444 + gain.more) ** -0.5)
        assert gain.low < true < gain.high
    assert curve.gains[0].expected == pytest.approx(0.8 * (444**-0.5 - 888**-0.5), rel=0.4)
    assert curve.now[0] == pytest.approx(0.94 - 0.8 * 444**-0.5, abs=0.003)
    weights = fit_power_law(points).weight
    assert weights.sum() == pytest.approx(1)


def test_intervals_cover_the_truth():
    """Of 40 simulated sets the 95% interval of the mean gain covers it in at least 34 (binomially, 38 are expected)."""
    covered = {50: 0, 400: 0}
    for seed in range(40):
        a, b, c = [(0.8, 0.5, 0.06), (1.5, 0.7, 0.0), (0.5, 0.3, 0.02)][seed % 3]
        curve = learning_curve(simulated(seed, a, b, c), 444, list(covered))
        for gain in curve.gains:
            true = a * (444**-b - (444 + gain.more) ** -b)
            covered[gain.more] += gain.low <= true <= gain.high
    assert min(covered.values()) >= 34, covered


def test_more_labels_bring_more_and_more_items_make_it_narrower():
    few, many = (learning_curve(simulated(5, items=items), 444, [50, 200, 1000]) for items in (150, 5000))
    assert few.gains[0].expected < few.gains[1].expected < few.gains[2].expected
    widths = [gain.high - gain.low for gain in (few.gains[1], many.gains[1])]
    assert widths[1] < widths[0]
    assert np.all(np.diff(many.middle) >= 0)
    assert many.at[-1] == 1444


def test_perfect_scores_leave_nothing_to_gain():
    points = CurvePoints(sizes=SIZES[:4], correct=np.ones((61, 4)), noise=np.zeros(4), heads=10)
    curve = learning_curve(points, 61, [50])
    assert curve.gains[0].high < 0.05
    assert curve.now[0] > 0.95
