"""Class activation maps lie on the object that is asked for, and depend on the trained weights."""

from __future__ import annotations

import io
import tarfile
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

import restune
from restune.inference.model import Model

COUNT = 150
"""Composites of two images of different classes, each asked for both."""


def cifar(real_data):
    """The published CIFAR-10 ResNet-20 (91.7%), and photos that it was not trained on."""
    photos = []
    with tarfile.open(real_data / "cifar10-jpeg" / "test.tar.gz") as archive:
        for member in archive:
            if member.name.endswith(".jpg") and int(PurePosixPath(member.name).stem) < 60:
                content = archive.extractfile(member).read()
                photos.append((PurePosixPath(member.name).parent.name, np.asarray(Image.open(io.BytesIO(content)))))
    weights = real_data / "weights" / "resnet20-12fca82f.th"
    model = restune.load("resnet20", weights=weights, image_size=64)
    return model.with_classes(sorted({label for label, _ in photos})), photos


def mnist(real_data, folder):
    """A ResNet-8 trained here on 1,600 handwritten digits, and other digits."""
    source = np.load(real_data / "mnist" / "train_0.npz")
    np.savez(folder / "digits.npz", images=source["images"][:2000], labels=source["labels"][:2000])
    run = restune.train(folder / "digits.npz", model="resnet8", image_size=28, epochs=8, out=folder / "run")
    others = zip(source["labels"][10_000:10_600].astype(str), source["images"][10_000:10_600], strict=True)
    return restune.load(run.out, image_size=56), list(others)


def composites(photos, background):
    """Return square canvases with two images side by side, at heights of their own, and both classes."""
    random, found = np.random.default_rng(0), []
    while len(found) < COUNT:
        (left, one), (right, other) = (photos[place] for place in random.integers(0, len(photos), 2))
        if left != right:
            side = len(one)
            canvas = np.broadcast_to(np.array(background, np.uint8), (2 * side, 2 * side, *one.shape[2:])).copy()
            top, below = random.integers(0, side + 1, 2)
            canvas[top : top + side, :side], canvas[below : below + side, side:] = one, other
            found.append((canvas, left, right))
    return found


def centre_of_mass(heat):
    """The column of the centre of mass of the evidence for the class, as a share of the width."""
    weights = np.clip(heat, 0, None).sum(axis=0)
    return np.average((np.arange(len(weights)) + 0.5) / len(weights), weights=weights + 1e-12)


def check_halves(model, found):
    """At least 90% of the centres of mass are in the half of the class that is asked for; of flipped maps few are."""
    right, flipped = [], []
    for label in model.classes:
        asked = [(canvas, label == left) for canvas, left, other in found if label in (left, other)]
        maps = model.explain([canvas for canvas, _ in asked], label=label)
        for explanation, (_, is_left) in zip(maps, asked, strict=True):
            heat = explanation.on_original()
            right.append((centre_of_mass(heat) < 0.5) == is_left)
            flipped.append((centre_of_mass(heat[:, ::-1]) < 0.5) == is_left)
    print(f"in the right half: {np.mean(right):.1%} of {len(right)}; flipped: {np.mean(flipped):.1%}")
    assert len(right) == 2 * COUNT
    assert np.mean(right) >= 0.9
    assert np.mean(flipped) < 0.1


def check_random_weights(model, name, found):
    """Adebayo et al. 2018: an explanation that does not depend on the weights explains nothing."""
    canvases, label, correlations = [canvas for canvas, _, _ in found[:40]], model.classes[3], []
    trained = model.explain(canvases, label=label)
    for seed in range(5):
        torch.manual_seed(seed)
        network = restune.create_model(name, num_classes=10, in_channels=model.spec.in_channels).eval()
        random = Model(network, model.info, "random weights").explain(canvases, label=label)
        correlations += [
            spearmanr(one.positions.ravel(), other.positions.ravel()).statistic
            for one, other in zip(trained, random, strict=True)
        ]
    print(f"rank correlation with the maps of random weights: {np.mean(correlations):.3f}")
    assert abs(np.mean(correlations)) < 0.2


def test_maps_of_photos_are_faithful(real_data):
    model, photos = cifar(real_data)
    found = composites(photos, (124, 116, 104))
    check_halves(model, found)
    check_random_weights(model, "resnet20", found)


@pytest.mark.slow
def test_maps_of_digits_are_faithful(real_data, tmp_path):
    model, digits = mnist(real_data, tmp_path)
    found = composites(digits, 0)
    check_halves(model, found)
    check_random_weights(model, "resnet8", found)
