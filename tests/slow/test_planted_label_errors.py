"""Label errors planted in real images and texts are found without any weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from restune.data.items import targets_of
from restune.data.sources import open_dataset
from restune.evaluation.label_errors import find_label_errors
from restune.inference.untrained import untrained_features
from restune.training.out_of_fold import out_of_fold

pytestmark = [pytest.mark.slow, pytest.mark.data]


@pytest.mark.parametrize(
    ("source", "count", "least"),
    [
        ("cifar10-jpeg/test.tar.gz", 10_000, 0.6),
        ("sign-digits/Dataset", 2_000, 0.85),
        ("text/TREC.train.all", 5_452, 0.6),
    ],
)
def test_most_of_3_percent_wrong_labels_are_among_the_6_percent_most_suspicious(real_data, source, count, least):
    from cleanlab.rank import get_label_quality_scores

    dataset = open_dataset(real_data / source)
    random = np.random.default_rng(0)
    if len(dataset) > count:
        dataset = dataset.take(np.sort(random.permutation(len(dataset))[:count]))
    labels, classes = targets_of(dataset.items).astype(np.int64), len(dataset.classes)
    is_wrong = np.zeros(count, bool)
    is_wrong[random.choice(count, round(0.03 * count), replace=False)] = True
    labels[is_wrong] = (labels[is_wrong] + random.integers(1, classes, is_wrong.sum())) % classes

    features = untrained_features(dataset)
    assert len(features.readable) == count
    logits = out_of_fold(features.rows, labels, classes).logits
    found = find_label_errors(logits, labels)
    precision = average_precision_score(is_wrong, found.suspicion)
    share = is_wrong[found.ranked()[: round(0.06 * count)]].sum() / is_wrong.sum()
    print(f"{source}: accuracy {found.accuracy:.3f}, found {share:.3f}, average precision {precision:.3f}")
    assert share >= least
    probabilities = np.exp(logits - logits.max(1, keepdims=True), dtype=np.float64)
    probabilities /= probabilities.sum(1, keepdims=True)
    assert precision >= average_precision_score(is_wrong, -get_label_quality_scores(labels, probabilities)) - 1e-6
    assert found.is_error.mean() < 0.1
