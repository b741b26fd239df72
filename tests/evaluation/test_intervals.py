"""Intervals hold the true score in about 95% of simulated test sets."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from restune.evaluation.evaluation import EvaluationBuilder
from restune.evaluation.intervals import mean_of_proportions, resampled, wilson_bounds
from restune.evaluation.metrics import f1_interval, wilson_interval


def test_many_proportions_are_wilsons():
    hits, n = np.array([0, 3, 9, 50]), np.array([1, 7, 9, 60])
    low, high = wilson_bounds(hits / n, n.astype(float))
    for place in range(4):
        assert (low[place], high[place]) == pytest.approx(wilson_interval(int(hits[place]), int(n[place])))
    assert [limit.tolist() for limit in wilson_bounds(np.array([0.0]), np.array([0.0]))] == [[0.0], [1.0]]


def test_resamples_are_drawn_as_scipys_bootstrap_draws_them():
    random = np.random.default_rng(0)
    values = random.exponential(size=200)
    draws = resampled(200, lambda w: (w @ values / w.sum(axis=1))[:, None], "test")
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=random)
    low, high = np.quantile(draws[:, 0], (0.025, 0.975))
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.03)
    assert np.array_equal(draws, resampled(200, lambda w: (w @ values / w.sum(axis=1))[:, None], "test"))


def test_strata_keep_their_sizes():
    strata = np.array([2, 0, 2, 2, 1, 0])
    counts = resampled(
        6, lambda w: np.stack([w[:, strata == place].sum(axis=1) for place in range(3)], 1), "t", strata=strata
    )
    assert np.array_equal(np.unique(counts, axis=0), [[2, 1, 3]])


def test_the_mean_of_proportions_lies_between_their_limits():
    shares = np.array([0.5, 0.9])
    low, high = wilson_bounds(shares, np.array([40.0, 40.0]))
    found = mean_of_proportions(shares, low, high)
    assert low.mean() < found[0] < 0.7 < found[1] < high.mean()


CLASSES = 4


def draw(random, n):
    """A classifier that errs most on the rare class and claims too much."""
    targets = random.choice(CLASSES, n, p=(0.4, 0.3, 0.2, 0.1))
    strength = np.array([3.0, 2.5, 2.0, 1.5])[targets]
    logits = random.normal(size=(n, CLASSES)) * 1.3
    logits[np.arange(n), targets] += strength
    return (logits * 1.5).astype(np.float32), targets


def measures(logits, targets):
    builder = EvaluationBuilder(tuple("abcd"))
    builder.add([""] * len(targets), targets.tolist(), torch.tensor(logits))
    return builder.evaluation().measures


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 400])
def test_intervals_cover_the_truth(n, monkeypatch):
    """At n = 100 the rare class has ten items. 400 sets: a coverage of 95% is measured to about 1.1 points."""
    monkeypatch.setattr("restune.evaluation.intervals._RESAMPLES", 400)
    random = np.random.default_rng(0)
    truth = measures(*draw(random, 400_000))
    repeats = 400
    held = {}
    for _ in range(repeats):
        sample = measures(*draw(random, n))
        for name, interval in sample.intervals.items():
            held[name] = held.get(name, 0) + (interval[0] <= truth.values[name] <= interval[1])
        for kind, (score, true) in {
            name: (sample.ranking[place], truth.ranking[place]) for place, name in enumerate(("auroc", "ap"))
        }.items():
            for place in range(CLASSES):
                name = f"{kind} of class {place}"
                held[name] = held.get(name, 0) + (score.low[place] <= true.value[place] <= score.high[place])
    shares = {name: count / repeats for name, count in held.items()}
    print({name: round(share, 3) for name, share in shares.items()})
    assert min(shares.values()) >= (0.9 if n == 400 else 0.85)
    assert np.mean(list(shares.values())) >= (0.935 if n == 400 else 0.89)


@pytest.mark.slow
def test_the_interval_of_f1_covers_the_truth():
    """Hits, misses and false alarms drawn together; the true F1 is 0.8."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(3000):
        hits, missed, false, _rest = random.multinomial(200, (0.2, 0.04, 0.06, 0.7))
        low, high = f1_interval(hits, hits + missed, hits + false)
        held += low <= 2 * 0.2 / (2 * 0.2 + 0.04 + 0.06) <= high
    assert held / 3000 == pytest.approx(0.95, abs=0.015)
