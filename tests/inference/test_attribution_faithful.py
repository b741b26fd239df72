"""Class activation maps find the object that is asked for, and depend on the trained weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import restune
from restune.inference.model import Model

pytestmark = pytest.mark.slow
SIDE = 56


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """MNIST's handwritten digits: a network trained on single ones, anywhere on a canvas, and others to test on."""
    import os
    from pathlib import Path

    named = os.environ.get("RESTUNE_TEST_DATA")
    if not named:
        pytest.skip("RESTUNE_TEST_DATA does not name the folder of real data sets")
    source = np.load(Path(named) / "mnist" / "train_0.npz")
    images, labels = source["images"], source["labels"]
    random = np.random.default_rng(0)
    canvas = np.zeros((2500, SIDE, SIDE), np.uint8)
    for number, (top, left) in enumerate(random.integers(0, SIDE - 28, (len(canvas), 2))):
        canvas[number, top : top + 28, left : left + 28] = images[number]
    folder = tmp_path_factory.mktemp("digits")
    np.savez(folder / "digits.npz", images=canvas, labels=labels[: len(canvas)])
    run = restune.train(folder / "digits.npz", model="resnet8", image_size=SIDE, epochs=7, out=folder / "run")
    return restune.load(run.out), images[10_000:], labels[10_000:]


def composites(images, labels, count):
    """Yield canvases with two digits of different classes side by side, with the class on the left and on the right."""
    random = np.random.default_rng(1)
    while count:
        one, other = random.integers(0, len(images), 2)
        if labels[one] == labels[other]:
            continue
        canvas = np.zeros((SIDE, SIDE), np.uint8)
        top, below = random.integers(0, SIDE - 28, 2)
        canvas[top : top + 28, :28], canvas[below : below + 28, 28:] = images[one], images[other]
        count -= 1
        yield canvas, str(labels[one]), str(labels[other])


def centre_of_mass(heat):
    weights = np.clip(heat, 0, None).sum(axis=0)
    return float((weights * (np.arange(len(weights)) + 0.5)).sum() / max(weights.sum(), 1e-9))


def test_the_map_lies_on_the_digit_that_is_asked_for(digits):
    model, images, labels = digits
    right = flipped = total = 0
    for canvas, on_left, on_right in composites(images, labels, 150):
        for label, is_left in ((on_left, True), (on_right, False)):
            (explanation,) = model.explain(canvas, label=label)
            heat = explanation.on_original()
            right += (centre_of_mass(heat) < SIDE / 2) == is_left
            flipped += (centre_of_mass(heat[:, ::-1]) < SIDE / 2) == is_left
            total += 1
    print(f"centre of mass in the right half: {right} of {total} ({right / total:.1%}); flipped maps: {flipped}")
    assert total == 300
    assert right / total >= 0.9
    assert flipped / total < 0.2, "the check would notice a flipped map"


def test_random_weights_destroy_the_map(digits):
    """Adebayo et al. 2018: an explanation that does not depend on the weights explains nothing."""
    model, images, labels = digits
    pairs = list(composites(images, labels, 40))
    correlations = []
    for seed in range(5):
        torch.manual_seed(seed)
        network = restune.create_model("resnet8", num_classes=10, in_channels=model.spec.in_channels).eval()
        randomised = Model(network, model.info, "random")
        for canvas, _, label in pairs:
            (trained,), (random,) = (one.explain(canvas, label=label) for one in (model, randomised))
            correlations.append(spearmanr(trained.positions.ravel(), random.positions.ravel()).statistic)
    mean = float(np.nanmean(correlations))
    magnitude = float(np.nanmean(np.abs(correlations)))
    print(f"rank correlation with random weights: mean {mean:.3f}, mean magnitude {magnitude:.3f}")
    assert abs(mean) < 0.2
