"""Augmentation against torchvision's own operations, by hand, and as a pure function of place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import TrivialAugmentWide

from restune.core.streams import generator
from restune.data.augment import (
    OPERATIONS,
    Augment,
    RandomKey,
    _crop_box,
    _inside,
    _reflected,
    _trivial_strength,
    apply_operation,
    augment_pixels,
    erase,
    mix,
    random_crops,
)
from restune.data.preprocess import ImagePreprocess

NAMES = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
}


def place(count, *, epoch=0, step=0, seed=1, first=0):
    return RandomKey(seed=seed, epoch=epoch, positions=tuple(range(first, first + count)), step=step)


@pytest.fixture
def images():
    rows = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    return torch.from_numpy(rows)


def test_a_reflected_border_is_numpys(images):
    shifted = augment_pixels(images, Augment(shift=4, border="reflect"), place(8))
    for image, one in zip(shifted, images, strict=True):
        whole = np.pad(one.numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")
        places = [(y, x) for y in range(9) for x in range(9)]
        assert any(np.array_equal(image.numpy(), whole[:, y : y + 32, x : x + 32]) for y, x in places)
    assert not torch.equal(shifted, images)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_shift_wider_than_the_image_reflects_again(size):
    image = torch.arange(size * size, dtype=torch.uint8).view(1, 1, size, size)
    padded = np.pad(image.numpy(), ((0, 0), (0, 0), (7, 7), (7, 7)), mode="reflect")
    assert np.array_equal(_reflected(image, 7).numpy(), padded)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0, 7, 30])
@pytest.mark.parametrize("sign", [0.0, 0.9])
def test_operations_are_torchvisions(images, name, level, sign):
    assert set(NAMES) == set(OPERATIONS)
    strength = _trivial_strength(name, level, sign)
    ours = apply_operation(images[0], name, strength)
    peer = TrivialAugmentWide()
    strength = strength / 255 if name == "solarize" else strength  # theirs is a share of the brightest level
    theirs = peer._apply_image_or_video_transform(images[0], NAMES[name], strength, peer.interpolation, peer._fill)
    assert torch.equal(ours, theirs)


def test_trivial_strengths_are_torchvisions():
    table = TrivialAugmentWide()._AUGMENTATION_SPACE
    assert set(table) == set(NAMES.values())
    for name in OPERATIONS:
        magnitudes_of, signed = table[NAMES[name]]
        magnitudes = magnitudes_of(31, 32, 32)
        if magnitudes is None:  # an operation without strength
            continue
        for level in (0, 13, 30):
            expected = float(magnitudes[level]) * (255 if name == "solarize" else 1)
            assert _trivial_strength(name, level, 0.9) == pytest.approx(expected, abs=1e-5), name
            assert (_trivial_strength(name, 30, 0.1) < 0) == signed


def test_shift_by_hand(images):
    shifted = augment_pixels(images, Augment(shift=4), place(8))
    padded = torch.nn.functional.pad(images, [4] * 4)
    for image, whole in zip(shifted, padded, strict=True):
        crops = [whole[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        assert any(torch.equal(image, crop) for crop in crops)
    assert not torch.equal(shifted, images)


def test_flip_mirrors_half(images):
    many = images[:1].expand(400, -1, -1, -1)
    flipped = augment_pixels(many, Augment(flip=True), place(400))
    mirrored = (flipped == many.flip(3)).flatten(1).all(1)
    assert ((flipped == many).flatten(1).all(1) | mirrored).all()
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("size", [(32, 32), (100, 60), (20, 300)])
def test_crop_boxes_are_distributed_as_torchvisions(size):
    draws = generator(0, "test").random((4000, 40))
    ours = np.array([_crop_box(*size, (0.08, 1.0), (3 / 4, 4 / 3), row) for row in draws])
    torch.manual_seed(0)
    blank = torch.zeros(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    assert np.allclose(ours.mean(0), theirs.mean(0), rtol=0.06, atol=0.6)
    assert np.allclose(ours.std(0), theirs.std(0), rtol=0.08, atol=0.6)
    top, left, height, width = ours.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()


def test_random_crops_have_one_size(images):
    settings = ImagePreprocess(crop=24)
    sizes = [image[:, : 20 + i, : 32 - i] for i, image in enumerate(images)]
    crops = random_crops(sizes, Augment(crop_scale=(0.2, 1.0)), settings.crop, settings.interpolation, place(8))
    assert crops.shape == (8, 3, 24, 24)
    assert crops.dtype == torch.uint8


def test_erase_sets_rectangles_to_the_mean(images):
    floats = torch.ones(2000, 1, 16, 16)
    erased = erase(floats, 0.3, place(2000))
    touched = (erased == 0).flatten(1).any(1)
    assert 500 < int(touched.sum()) < 700
    shares = (erased == 0).double().mean((1, 2, 3))[touched]
    assert shares.min() >= 0.01
    assert shares.max() <= 0.45


def test_pixels_inside_boxes_by_hand():
    inside = _inside([(1, 3, 2, 4), None], 4, 5, torch.device("cpu"))
    assert inside.shape == (2, 1, 4, 5)
    assert torch.nonzero(inside).tolist() == [[0, 0, y, x] for y in (1, 2) for x in (2, 3)]


def test_mixup_by_hand():
    images, targets = torch.randn(6, 3, 8, 8), torch.eye(6)
    mixed, shares = mix(images, targets, mixup=0.4, cutmix=0.0, key=place(6))
    keep = shares[0, 0]
    assert torch.allclose(shares.sum(1), torch.ones(6))
    assert torch.allclose(mixed, keep * images + (1 - keep) * images.roll(1, 0), atol=1e-6)


def test_cutmix_by_hand():
    images, targets = torch.randn(6, 3, 16, 16), torch.eye(6)
    mixed, shares = mix(images, targets, mixup=0.0, cutmix=1.0, key=place(6, step=3))
    pasted = (mixed == images.roll(1, 0)).all(1)[0]
    assert 1 - shares[0, 0].item() == pytest.approx(pasted.double().mean().item())
    assert torch.equal(mixed[0][:, ~pasted], images[0][:, ~pasted])


def test_with_both_on_a_batch_gets_one_of_the_two():
    images, targets = torch.randn(4, 3, 16, 16), torch.eye(4)
    kinds = set()
    for step in range(20):
        mixed, _ = mix(images, targets, mixup=1.0, cutmix=1.0, key=place(4, step=step))
        kinds.add(bool(((mixed == images) | (mixed == images.roll(1, 0))).all()))
    assert kinds == {True, False}


@pytest.mark.parametrize(
    "augment",
    [
        Augment(shift=3),
        Augment(flip=True),
        Augment(policy="trivial"),
        Augment(policy="rand", rand_ops=3),
        Augment(shift=2, flip=True, policy="trivial"),
    ],
)
def test_an_image_alone_is_the_image_in_its_batch(images, augment):
    """Any sample can be replayed alone, and everything its draw depends on matters."""
    together = augment_pixels(images, augment, place(8))
    alone = torch.cat([augment_pixels(images[i : i + 1], augment, place(1, first=i)) for i in range(8)])
    assert torch.equal(together, alone)
    for other in (place(8, epoch=1), place(8, seed=2), place(8, first=8)):
        assert not torch.equal(together, augment_pixels(images, augment, other))
