"""Temperature, calibration errors and reliability, against SciPy, torchmetrics, resampling and hand computation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
import torchmetrics.functional.classification as peers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restune.evaluation.calibration import Reliability, fit_calibration, fit_temperature
from restune.evaluation.items import item_scores
from restune.inference.forward import mean_of_views, probabilities
from restune.weights.calibration import Calibration

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def drawn(n, classes=5, scale=4.0, true=2.0, seed=0):
    """Logits whose calibrated temperature is scale / true."""
    random = np.random.default_rng(seed)
    base = random.normal(size=(n, classes))
    targets = (base * true + random.gumbel(size=base.shape)).argmax(axis=1)
    return (base * scale).astype(np.float32), targets


def nll(logits, targets, temperature):
    return item_scores(logits, targets, temperature).nll.mean()


@quick
@given(
    st.integers(1, 30), st.integers(2, 8), st.sampled_from([1e-3, 0.3, 3.0, 300.0]), st.integers(0, 10**6),
    st.sampled_from(["random", "right", "wrong"]),
)  # fmt: skip
def test_temperature_never_worsens_the_likelihood_of_validation_items(n, classes, scale, seed, kind):
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(n, classes)) * scale).astype(np.float32)
    targets = {"random": random.integers(0, classes, n), "right": logits.argmax(1), "wrong": logits.argmin(1)}[kind]
    calibration = fit_calibration(logits, targets, logits.argmax(1))
    assert calibration.nll[1] <= calibration.nll[0]
    assert 0 < calibration.temperature < np.inf
    assert nll(logits, targets, calibration.temperature) == calibration.nll[1]


@pytest.mark.parametrize(("scale", "true"), [(4.0, 2.0), (1.0, 3.0), (2.0, 2.0)])
def test_temperature_is_the_minimum_that_scipy_finds(scale, true):
    logits, targets = drawn(3000, scale=scale, true=true)
    found = scipy.optimize.minimize_scalar(lambda t: nll(logits, targets, t), bounds=(0.05, 20), method="bounded")
    assert fit_temperature(logits, targets) == pytest.approx(found.x, rel=2e-3)
    assert fit_temperature(logits, targets) == pytest.approx(scale / true, rel=0.1)


def test_few_items_all_right_do_not_make_the_model_certain():
    """The likelihood alone would have the temperature fall to 0."""
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * 2
    temperature = fit_temperature(logits, logits.argmax(1))
    assert 0.3 < temperature < 1
    assert probabilities(torch.tensor(logits), temperature).max() < 0.99


def test_views_are_averaged_before_the_temperature():
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)) * 5
    mean = logits.softmax(dim=2).mean(dim=1)
    expected = mean ** (1 / 2.5) / (mean ** (1 / 2.5)).sum(dim=1, keepdim=True)
    assert torch.allclose(probabilities(mean_of_views(logits), 2.5), expected, atol=1e-6)
    apart = torch.tensor([[[0.0, 300.0], [0.0, 300.0]]])
    assert torch.isfinite(mean_of_views(apart)).all(), "a probability below the smallest float has a logarithm"
    assert mean_of_views(apart)[0, 0] == pytest.approx(-300)


def test_ece_is_torchmetrics_where_bins_are_the_same():
    """15 equal-width bins with as many items in each are equal-mass bins, too."""
    random = np.random.default_rng(0)
    confidence = ((np.arange(15)[:, None] + random.uniform(0.1, 0.9, (15, 40))) / 15).ravel().astype(np.float32)
    is_right = random.uniform(size=600) < confidence
    theirs = peers.binary_calibration_error(torch.tensor(confidence), torch.tensor(is_right).int(), n_bins=15)
    reliability = Reliability.of(confidence, is_right)
    assert reliability.n.tolist() == [40] * 15
    assert reliability.ece == pytest.approx(theirs.item(), abs=1e-6)
    theirs = peers.binary_calibration_error(
        torch.tensor(confidence), torch.tensor(is_right).int(), n_bins=15, norm="l2"
    )
    gaps = reliability.confidence - reliability.accuracy
    assert np.sqrt((gaps**2).mean()) == pytest.approx(theirs.item(), abs=1e-6)
    unbiased = gaps**2 - reliability.accuracy * (1 - reliability.accuracy) / 39
    assert reliability.rms_debiased == pytest.approx(np.sqrt(max(0, unbiased.mean())))


def test_the_debiased_error_is_the_one_that_resampling_gives():
    """Kumar et al. 2019 draw each bin's accuracy anew from a normal distribution and take the mean excess off."""
    random = np.random.default_rng(1)
    confidence = random.uniform(0.3, 1, 900).astype(np.float32)
    is_right = random.uniform(size=900) < confidence - 0.05
    r = Reliability.of(confidence, is_right)
    spread = np.sqrt(r.accuracy * (1 - r.accuracy) / r.n)
    drawn = random.normal(r.accuracy, spread, (200_000, len(r.n)))
    excess = (np.abs(drawn - r.confidence) * r.n).sum(axis=1).mean() / 900 - r.ece
    assert r.ece_debiased == pytest.approx(r.ece - excess, abs=1e-4)


def test_a_calibrated_model_has_no_debiased_error_in_the_mean():
    """Its plain error is what 15 bins of 40 items show by chance."""
    random, plain, squared = np.random.default_rng(2), [], []
    for _ in range(300):
        confidence = random.uniform(0.3, 1, 600).astype(np.float32)
        r = Reliability.of(confidence, random.uniform(size=600) < confidence)
        plain.append(r.ece)
        gaps = (r.confidence - r.accuracy) ** 2 - r.accuracy * (1 - r.accuracy) / (r.n - 1)
        squared.append((gaps * r.n).sum() / 600)
    assert np.mean(plain) > 0.04
    assert abs(np.mean(squared)) < 3 * np.std(squared) / np.sqrt(300)


def test_equal_probabilities_share_a_bin_whatever_their_order():
    random = np.random.default_rng(4)
    confidence = random.choice([0.5, 0.7, 1.0], 300).astype(np.float32)
    is_right = random.uniform(size=300) < 0.7
    whole = Reliability.of(confidence, is_right)
    order = random.permutation(300)
    assert Reliability.of(confidence[order], is_right[order]).ece == whole.ece
    assert len(whole.n) == 3
    by_hand = sum(abs(is_right[confidence == c].mean() - c) * (confidence == c).mean() for c in np.unique(confidence))
    assert whole.ece == pytest.approx(by_hand, abs=1e-6)
    assert len(whole.diagram()) == 3
    assert sum(point["n"] for point in whole.diagram()) == 300


def test_what_a_bundle_stores_is_read_back():
    logits, targets = drawn(200)
    calibration = fit_calibration(logits, targets, logits.argmax(1))
    content = calibration.to_dict()
    assert set(content) == {"temperature", "n", "nll", "ece", "abstention", "conformal"}
    assert Calibration.from_dict(content, 5) == calibration
    for change in ({"temperature": 0}, {"temperature": float("nan")}, {"nll": [1]}, {"n": -1}, {"n": 2.5}):
        with pytest.raises(ValueError, match="calibration"):
            Calibration.from_dict({**content, **change}, 5)
    with pytest.raises(ValueError, match="other classes"):
        Calibration.from_dict(content, 4)


@pytest.mark.parametrize("temperature", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("n", [100, 1000])
def test_the_interval_of_the_calibration_error_holds_the_truth(n, temperature):
    """Also where the model is calibrated, and the error of a sample is chance alone."""
    random = np.random.default_rng(0)

    def sample(count):
        logit = np.abs(random.normal(2, 2, count))
        return 1 / (1 + np.exp(-logit)), random.uniform(size=count) < 1 / (1 + np.exp(-logit / temperature))

    bins = min(15, n // 20)
    confidence, is_right = sample(600_000)
    order = np.argsort(confidence).reshape(bins, -1)
    truth = np.abs(confidence[order].mean(axis=1) - is_right[order].mean(axis=1)).mean()
    held = 0
    for _ in range(150):
        low, high = Reliability.of(*sample(n)).interval
        held += low <= truth <= high
    assert held / 150 >= 0.9
