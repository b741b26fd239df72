"""Label errors equal cleanlab's, planted ones are found, and outliers stand out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from restune.core.errors import UserError
from restune.evaluation.label_errors import find_label_errors
from restune.evaluation.outliers import find_outliers
from restune.training.out_of_fold import FOLDS, folds_of, out_of_fold

pytest.importorskip("cleanlab", reason="cleanlab is not installed")


def blobs(count=600, classes=4, flipped=0.03, spread=1.0, seed=0):
    """Items around class centres, some of whose labels are wrong: features, labels, which are wrong, true labels."""
    random = np.random.default_rng(seed)
    truth = random.integers(classes, size=count)
    rows = 3 * np.eye(classes, 16)[truth] + spread * random.normal(size=(count, 16))
    labels, is_wrong = truth.copy(), np.zeros(count, bool)
    is_wrong[random.choice(count, round(flipped * count), replace=False)] = True
    labels[is_wrong] = (truth[is_wrong] + random.integers(1, classes, is_wrong.sum())) % classes
    return torch.from_numpy(rows).float(), labels, is_wrong, truth


def test_ranking_and_selection_are_cleanlabs():
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    rows, labels, is_wrong, truth = blobs(flipped=0.1)
    logits = out_of_fold(rows, labels, 4).logits
    found = find_label_errors(logits, labels)
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    theirs = get_label_quality_scores(labels, probabilities)
    np.testing.assert_allclose(1 - found.suspicion, theirs, atol=1e-9)
    precision = average_precision_score(is_wrong, found.suspicion)
    assert precision >= average_precision_score(is_wrong, -theirs) - 1e-9
    assert precision > 0.9
    issues = find_label_issues(labels, probabilities, filter_by="low_self_confidence", n_jobs=1)
    assert (found.is_error <= issues).all(), "none that confident learning does not count"
    assert (found.is_error >= (issues & (theirs < 0.0625) & (probabilities.argmax(1) != labels))).all()
    assert (found.proposed[found.is_error & is_wrong] == truth[found.is_error & is_wrong]).mean() > 0.9


def test_most_planted_errors_are_among_the_most_suspicious():
    rows, labels, is_wrong, _ = blobs(1000, spread=1.2)
    found = find_label_errors(out_of_fold(rows, labels, 4).logits, labels)
    assert is_wrong[found.ranked()[:60]].sum() >= 0.9 * is_wrong.sum()
    clean = find_label_errors(out_of_fold(*blobs(1000, flipped=0, spread=0.5)[:2], 4).logits, blobs(1000, flipped=0)[1])
    assert clean.is_error.sum() <= 2


def test_out_of_fold_logits_are_of_heads_that_have_not_seen_the_item():
    rows, labels, _, _ = blobs(200, flipped=0)
    made = out_of_fold(rows, labels, 4)
    folds = folds_of(labels, None, 0)
    for fold in range(FOLDS):
        fitted, held = folds != fold, folds == fold
        reference = LogisticRegression(C=1 / (made.l2 * fitted.sum()), tol=1e-8, max_iter=5000)
        reference.fit(rows[fitted].numpy(), labels[fitted])
        ours = torch.from_numpy(made.logits[held]).softmax(1).numpy()
        np.testing.assert_allclose(ours, reference.predict_proba(rows[held].numpy()), atol=2e-3)


def test_copies_stay_in_one_fold_and_classes_are_spread():
    random = np.random.default_rng(0)
    labels, groups = random.integers(3, size=300), random.integers(120, size=300)
    folds = folds_of(labels, groups, seed=1)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    alone = folds_of(labels, None, seed=1)
    counts = np.array([np.bincount(alone[labels == label], minlength=FOLDS) for label in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert not np.array_equal(alone, folds_of(labels, None, seed=2))


def test_a_flipped_copy_is_not_hidden_by_its_twin():
    rows, labels, _, _ = blobs(300, flipped=0)
    noisy = torch.cat([rows, rows[:1].repeat(12, 1)])
    labels = np.concatenate([labels, np.full(12, (labels[0] + 1) % 4)])  # twelve copies of one item, wrongly labelled
    groups = np.concatenate([np.arange(300), np.zeros(12, np.int64)])
    grouped = find_label_errors(out_of_fold(noisy, labels, 4, groups).logits, labels)
    assert grouped.suspicion[300:].min() > 0.9


def test_a_missing_cleanlab_is_one_message(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cleanlab", None)
    with pytest.raises(UserError, match="pip install 'restune\\[check\\]'"):
        find_label_errors(np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1]))


def test_outliers_are_far_from_all_others_whatever_the_scale():
    rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    rows[3] += 30
    rows[4] += torch.tensor([30.0] + [0.0] * 7)
    for scale in (1e-3, 1e3):
        found = find_outliers(rows * scale)
        assert np.flatnonzero(found.is_outlier).tolist() == [3, 4]
        assert found.distance.argmax() == 3
    assert not find_outliers(rows[5:]).is_outlier.any()
    assert not find_outliers(torch.ones(50, 4)).is_outlier.any()
    twins = torch.cat([rows[5:], rows[5:]])
    assert not find_outliers(twins).is_outlier.any()
