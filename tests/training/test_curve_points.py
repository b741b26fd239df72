"""Accuracies by number of labels: those of scikit-learn's heads on unseen items, and noise that shrinks with labels."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from restune.training.curve_points import LEAST_LABELS, curve_points


def gaussians(count, seed=0, width=6):
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, count)
    centers = np.random.default_rng(9).standard_normal((3, width)) * 0.9
    return (centers[targets] + random.standard_normal((count, width))).astype(np.float32), targets


def test_accuracies_are_those_of_heads_on_items_that_they_have_not_seen():
    rows, targets = gaussians(120)
    points = curve_points(torch.from_numpy(rows), targets, 3)
    assert points.sizes[-1] == 108
    assert points.correct.shape == (120, len(points.sizes))
    unseen, truth = gaussians(4000, seed=1)
    for place in (0, len(points.sizes) // 2, len(points.sizes) - 1):
        size = int(points.sizes[place])
        scores = []
        for seed in range(12):
            chosen = np.random.default_rng(seed).permutation(120)[:size]
            if len(np.unique(targets[chosen])) == 3:
                head = LogisticRegression(C=0.1).fit(rows[chosen], targets[chosen])
                scores.append(head.score(unseen, truth))
        assert abs(points.accuracy[place] - np.mean(scores)) < 0.1, size  # 120 items: a standard error of 4 points
    assert points.accuracy[-1] > points.accuracy[0]
    assert np.all(np.diff(points.noise) < 0)
    assert 0.005 < points.noise[0] < 0.2


def test_labels_that_mean_nothing_are_at_chance():
    rows, _ = gaussians(90)
    targets = np.random.default_rng(3).integers(0, 3, 90)
    points = curve_points(torch.from_numpy(rows), targets, 3)
    assert 0.15 < points.accuracy[-1] < 0.5, "an item that its own head had seen would be right"


def test_the_fewest_labels_and_a_class_of_one_item():
    rows, targets = gaussians(LEAST_LABELS)
    targets = np.where(np.arange(LEAST_LABELS) == 7, 3, targets)
    points = curve_points(torch.from_numpy(rows), targets, 4)
    assert np.all((points.correct >= 0) & (points.correct <= 1))
    assert points.correct[7].max() == 0, "nobody has seen another item of its class"
