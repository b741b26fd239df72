"""Fitted heads of multi-label data and regression against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from restune.training.label_heads import LabelProblem, choose_label_head
from restune.training.logistic import principal_axes


def features(count=300, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator).relu() * torch.logspace(-1, 1, width)
    weights = torch.randn(3, width, generator=generator) / torch.logspace(-1, 1, width)
    signal = rows @ weights.T + torch.randn(count, 3, generator=generator)
    return rows, signal - signal.mean(0)


@pytest.mark.parametrize("l2", [1.0, 0.05, 1e-3])
@pytest.mark.parametrize(("count", "width"), [(300, 12), (40, 90)])
def test_each_label_is_scikit_learns_logistic_regression(l2, count, width):
    rows, signal = features(count, width)
    targets = (signal > 0.5).float()
    problem = LabelProblem(task="multi-label", rows=rows, targets=targets, loss="binary-cross-entropy")
    (head,) = problem.fit(principal_axes(rows), [l2])
    for label in range(3):
        peer = LogisticRegression(C=1 / (l2 * count), tol=1e-10, max_iter=20_000)
        peer.fit(rows.double().numpy(), targets[:, label].numpy())
        ours = head.logits(rows)[:, label].sigmoid().numpy()
        assert ours == pytest.approx(peer.predict_proba(rows.double().numpy())[:, 1], abs=3e-3)


@pytest.mark.parametrize("l2", [1.0, 0.05, 1e-3])
@pytest.mark.parametrize(("count", "width"), [(300, 12), (40, 90)])
def test_numbers_are_scikit_learns_ridge(l2, count, width):
    rows, signal = features(count, width)
    problem = LabelProblem(task="regression", rows=rows, targets=signal, loss="huber")
    (head,) = problem.fit(principal_axes(rows), [l2])
    peer = Ridge(alpha=l2 * count).fit(rows.double().numpy(), signal.double().numpy())
    assert head.logits(rows).numpy() == pytest.approx(peer.predict(rows.double().numpy()), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_the_strength_is_the_one_with_the_least_held_out_loss(task):
    rows, signal = features(90, 60, seed=4)
    targets = (signal > 0).float() if task == "multi-label" else signal
    loss = "binary-cross-entropy" if task == "multi-label" else "squared-error"
    problem = LabelProblem(task=task, rows=rows[:60], targets=targets[:60], loss=loss)
    chosen = choose_label_head(problem, (rows[60:], targets[60:]), np.arange(60), 0)
    least = min(value for _, value in chosen.tried)
    assert dict(chosen.tried)[chosen.head.l2] <= least * 1.01 + 0.001
    assert chosen.tried[0][0] > chosen.head.l2 > chosen.tried[-1][0]
    folded = choose_label_head(problem, None, np.repeat(np.arange(30), 2), 0)
    assert folded.how == "5-fold cross-validation"
