"""The CIFAR networks and the recipe `cifar-paper` against an implementation that shares no code with restune."""

from __future__ import annotations

import io
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import restune
from restune.core.console import quiet
from restune.data.augment import Augment, RandomKey, augment_pixels

ROOT = Path(__file__).parents[1]
EPOCHS, IMAGES = 8, 50
DECAY = 0.2
"""Weight decay, so large that eight steps show it."""


@pytest.fixture(scope="module")
def independent():
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.tables import independent_cifar
    finally:
        sys.path.remove(str(ROOT))
    return independent_cifar


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A tar of class folders of small JPEG images, ten classes."""
    path = tmp_path_factory.mktemp("photos") / "train.tar"
    random = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for number in range(IMAGES):
            coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            written = io.BytesIO()
            Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(written, "JPEG", quality=75)
            info = tarfile.TarInfo(f"train/class{number % 10}/{number}.jpg")
            info.size = written.tell()
            archive.addfile(info, io.BytesIO(written.getvalue()))
    return path


@pytest.mark.parametrize(("depth", "residual"), [(20, True), (32, False)])
def test_both_compute_the_same_losses_from_the_same_initial_weights(depth, residual, independent, photos, tmp_path):
    """One batch per epoch, so that the order of the items does not matter; the schedule's warm-up and both of its drops
    lie within the eight steps. Reading, normalisation, network, loss, optimiser and schedule must all agree."""
    ours = restune.create_model(f"resnet{depth}", num_classes=10, residual=residual)
    theirs = independent.CifarNet(depth, residual)
    assert sum(p.numel() for p in theirs.parameters()) == {20: 269_722, 32: 464_154}[depth]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    found, expected = [], []
    with quiet():
        restune.train(
            photos, model=ours, out=tmp_path / "run", recipe="cifar-paper", epochs=EPOCHS, batch_size=IMAGES, val=0,
            precision="fp32", set={"augment.shift": 0, "augment.flip": False, "optimizer.weight_decay": DECAY},
            on_step=lambda step: found.append((step.lr, step.loss)),
        )  # fmt: skip
    images, labels = independent.read_tar(photos)
    independent.train(
        theirs, images, labels, epochs=EPOCHS, seed=0, batch=IMAGES, augment=False, decay=DECAY, on_step=expected.append
    )  # fmt: skip
    rates = [independent.rate_at(step, EPOCHS, 1) for step in range(EPOCHS)]
    assert [rate for rate, _ in found] == pytest.approx(rates)
    assert sorted(set(rates)) == pytest.approx([0.001, 0.01, 0.1]), "the eight steps cover the whole schedule"
    assert [loss for _, loss in found] == pytest.approx(expected, rel=2e-3)
    assert expected[-1] < 0.9 * expected[0]


def test_both_draw_the_same_augmentation():
    """Each of the 81 crops of an image padded by 4, mirrored or not, is drawn with equal frequency by either."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks.tables.independent_cifar import padded_crops
    finally:
        sys.path.remove(str(ROOT))
    image = np.random.default_rng(0).integers(1, 256, (3, 32, 32), dtype=np.uint8)
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
    crops = [padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    possible = {crop.tobytes() for crop in crops} | {crop[:, :, ::-1].tobytes() for crop in crops}
    assert len(possible) == 162
    drawn = 162 * 20
    copies = torch.from_numpy(image).expand(drawn, -1, -1, -1)
    key = RandomKey(seed=0, epoch=0, positions=tuple(range(drawn)), step=0)
    for views in (
        augment_pixels(copies, Augment(shift=4, flip=True), key),
        padded_crops(copies, torch.Generator().manual_seed(0)),
    ):
        counts = Counter(view.numpy().tobytes() for view in views)
        assert set(counts) == possible
        chi_squared = sum((count - 20) ** 2 / 20 for count in counts.values())
        assert 100 < chi_squared < 240  # 161 degrees of freedom: within 3.5 standard deviations, seeds fixed
