"""Proposals: uncertain and unlike one another where a head is known, typical ones of every cluster where none is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restune.evaluation.proposals import margins_of, propose


def blobs(count=40, groups=5, spread=0.05):
    """Directions of well-separated clusters of equal size, `[groups * count, groups]`, and their numbers."""
    random = np.random.default_rng(0)
    centers = np.eye(groups, dtype=np.float32)
    numbers = np.repeat(np.arange(groups), count)
    return torch.from_numpy(
        centers[numbers] + spread * random.standard_normal((len(numbers), groups), np.float32)
    ), numbers


NONE = torch.zeros(0, 5)


def test_margins_are_those_of_the_first_two_classes():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    assert margins_of(probabilities) == pytest.approx([0.2, 1.0, 0.0])


def test_uncertain_items_of_every_cluster_are_proposed():
    rows, numbers = blobs()
    margins = np.where(numbers < 4, 0.1, 0.95)  # the head is sure of the last cluster
    margins = margins + 0.001 * (np.arange(len(margins)) % 40)  # equally many of each cluster are the most uncertain
    chosen = propose(rows, 4, margins, NONE)
    assert sorted(numbers[chosen]) == [0, 1, 2, 3], "one of each cluster that the head is unsure of"


def test_of_one_cluster_the_more_uncertain_are_taken():
    random = np.random.default_rng(1)
    rows = torch.from_numpy(1 + 0.01 * random.standard_normal((600, 4), np.float32))
    margins = random.random(600)
    chosen = propose(rows, 10, margins, rows[:0])
    assert len(set(chosen.tolist())) == 10
    assert margins[chosen].max() <= np.sort(margins)[29], "no item beyond the thirty most uncertain"
    assert margins[chosen].mean() < 0.5 * margins.mean()


def test_without_a_head_typical_items_of_unlabelled_clusters_come_first():
    rows, numbers = blobs()
    odd = torch.nn.functional.normalize(torch.ones(1, 5), dim=1)  # between all clusters: typical of none
    known = rows[numbers == 2][:3]
    chosen = propose(torch.cat([rows, odd]), 4, None, known)
    assert sorted(numbers[place] for place in chosen.tolist()) == [0, 1, 3, 4]
    for place in chosen.tolist():
        members = rows[numbers == numbers[place]]
        distances = torch.cdist(members, members.mean(0, keepdim=True))[:, 0]
        own = torch.linalg.norm(rows[place] - members.mean(0))
        assert own <= distances.median(), "it lies in the middle of its cluster"


@pytest.mark.parametrize("margins", [None, np.linspace(0, 1, 200)])
def test_any_number_of_items_is_proposed_once_and_the_same_again(margins):
    rows, _ = blobs()
    for count in (1, 7, 199, 200):
        chosen = propose(rows, count, margins, NONE, seed=3)
        assert len(set(chosen.tolist())) == count
        assert chosen.tolist() == propose(rows, count, margins, NONE, seed=3).tolist()


def test_equal_rows_are_no_obstacle():
    rows = torch.ones(50, 3)
    assert len(set(propose(rows, 5, np.full(50, 0.5), rows[:0]).tolist())) == 5
    assert len(set(propose(rows, 5, None, rows[:0]).tolist())) == 5
