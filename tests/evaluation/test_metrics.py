"""Scores against scikit-learn, SciPy and torchmetrics."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
import torchmetrics.functional.classification as peers

from restune.evaluation.evaluation import EvaluationBuilder
from restune.evaluation.metrics import wilson_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (8, 10), (81, 100), (8103, 10000), (10000, 10000)])
def test_wilson_interval_is_scipys(successes, n):
    theirs = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_no_items_say_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.fixture
def scored():
    """300 items of 7 classes in three uneven batches; class 6 has no items, class 5 is never predicted."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 6, (300,), generator=generator)
    logits = torch.randn(300, 7, generator=generator) + 2 * torch.nn.functional.one_hot(targets, 7)
    logits[:, 5] = -100
    counter = EvaluationBuilder(tuple("abcdefg"))
    for part in (slice(0, 128), slice(128, 299), slice(299, 300)):
        ids = [str(i) for i in range(300)[part]]
        counter.add(ids, targets[part].tolist(), logits[part])
    return counter.evaluation(model="m", data="d", fingerprint="f"), targets, logits


def test_scores_are_scikit_learns_and_torchmetrics(scored):
    evaluation, targets, logits = scored
    predicted = logits.argmax(1)
    assert evaluation.n == 300
    assert evaluation.accuracy == pytest.approx(sklearn.metrics.accuracy_score(targets, predicted))
    assert evaluation.top5 == pytest.approx(sklearn.metrics.top_k_accuracy_score(targets, logits, k=5, labels=range(7)))
    theirs = peers.multiclass_accuracy(logits, targets, num_classes=7, top_k=5, average="micro")
    assert evaluation.top5 == pytest.approx(theirs.item())
    confusion = sklearn.metrics.confusion_matrix(targets, predicted, labels=range(7))
    assert np.array_equal(evaluation.confusion, confusion)
    precision, recall, f1, n = sklearn.metrics.precision_recall_fscore_support(
        targets, predicted, labels=range(7), zero_division=np.nan
    )
    for position, scores in enumerate(evaluation.per_class.values()):
        assert scores.n == n[position]
        for ours, peer in ((scores.precision, precision), (scores.recall, recall), (scores.f1, f1)):
            assert (ours is None) == bool(np.isnan(peer[position])), position
            assert ours is None or ours == pytest.approx(peer[position])


def test_empty_classes_are_none_not_nan(scored):
    evaluation, _, _ = scored
    assert evaluation.per_class["f"].precision is None  # never predicted
    assert evaluation.per_class["g"].recall is None  # has no items
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_items_are_kept_in_order(scored):
    evaluation, targets, logits = scored
    assert evaluation.ids == tuple(str(i) for i in range(300))
    assert np.array_equal(evaluation.targets, targets.numpy())
    assert np.allclose(evaluation.probabilities, logits.softmax(1).max(1).values)


def test_top5_says_nothing_with_five_classes():
    counter = EvaluationBuilder(tuple("abcde"))
    counter.add(["x"], [0], torch.zeros(1, 5))
    assert counter.evaluation().top5 is None
