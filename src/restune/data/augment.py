"""Random augmentation of images and clips, with every parameter drawn from stateless streams.

Parameters are drawn for whole batches by numpy; `pixel_operations` changes the pixels. Geometry that
depends on an image's size works item by item (`random_crops`), everything else on batches of one size. All frames of a
clip change alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.streams import generator, uniforms
from restune.data import pixel_operations
from restune.data.resize import resize_to

CROP_DRAWS = 40
"""Random draws per random resized crop: ten tries of area, ratio and position, as in torchvision."""

_BLOCK = 65_536
"""Items whose draws are kept together."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentations and their strengths. All off by default.

    Args:
        crop_scale: minimum and maximum share of the image's area in a random resized crop (Szegedy et al.
            2015); None: the inference crop.
        crop_ratio: minimum and maximum aspect ratio (width over height) of that crop.
        shift: pad by this many pixels and crop back at random (He et al. 2016, section 4.2).
        border: pad with ``zeros``, or with the image's own pixels in reverse order (``reflect``).
        flip: mirror left-right half of the time. Wrong for digits and text.
        alternate_flip: mirror each item in every other epoch, starting at random, instead of at random in each: two
            epochs in a row then show both sides of every image (Jordan 2024, arXiv:2404.00498, section 3.6).
        policy: ``none``, ``trivial`` (Müller and Hutter 2021) or ``rand`` (Cubuk et al. 2020).
        rand_ops, rand_magnitude: number of operations that `rand` chains, and their strength (0 to 30).
        erase: share of images in which a rectangle is replaced by the mean (Zhong et al. 2017).
        repeats: consecutive copies of each item in an epoch, each augmented differently (Hoffer et al. 2020).
        jitter: standard deviation of noise added to a normalised series (Um et al. 2017).
        scaling: standard deviation, around 1, of a factor per channel.
        warp: maximum change of speed of its time axis: 0.5 means by up to half.
        window: share of a series in a random window; 1: all of it.
        drop_tokens: share of a text's tokens replaced by the unknown token.
    """

    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    shift: int = 0
    border: str = "zeros"
    flip: bool = False
    alternate_flip: bool = False
    policy: str = "none"
    rand_ops: int = 2
    rand_magnitude: int = 9
    erase: float = 0.0
    repeats: int = 1
    jitter: float = 0.0
    scaling: float = 0.0
    warp: float = 0.0
    window: float = 1.0
    drop_tokens: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RandomKey:
    """The random state of a batch: the run's seed and the batch's position in the run.

    Args:
        seed: of the run.
        epoch: from 0.
        positions: of the batch's items in the epoch's order.
        step: of the whole run, from 0.
        items: numbers that stay the same for an item in all epochs; (): the positions.
        stream: a prefix of every draw's purpose, so that other uses of the same seed draw different values.
    """

    seed: int
    epoch: int
    positions: tuple[int, ...]
    step: int
    items: tuple[int, ...] = ()
    stream: str = ""

    def of(self, row: int) -> RandomKey:
        """Return the key of one item; its draws equal the batch's draws for that item."""
        return replace(self, positions=self.positions[row : row + 1], items=self.items[row : row + 1])

    def draw(self, purpose: str, count: int) -> NDArray[np.float64]:
        """Draw ``[batch, count]`` uniform values in [0, 1)."""
        return uniforms(self.seed, self.stream + purpose, self.positions, count, self.epoch)

    def draw_per_item(self, purpose: str) -> NDArray[np.float64]:
        """Draw a uniform value in [0, 1) per item, ``[batch]``, the same in all epochs."""
        if not self.items:
            return uniforms(self.seed, self.stream + purpose, self.positions, 1)[:, 0]
        items = np.array(self.items)
        drawn = np.empty(len(items))
        for block in np.unique(items // _BLOCK):
            inside = items // _BLOCK == block
            drawn[inside] = _block(self.seed, self.stream + purpose, int(block))[items[inside] % _BLOCK]
        return drawn


@lru_cache(maxsize=64)
def _block(seed: int, purpose: str, number: int) -> NDArray[np.float64]:
    """Return the draws of a block of items, all at once: a shuffled batch draws row by row, which takes 100 times as
    long."""
    return uniforms(seed, purpose, range(number * _BLOCK, (number + 1) * _BLOCK), 1)[:, 0]


def random_crops(images: Sequence[Tensor], augment: Augment, size: int, interpolation: str, key: RandomKey) -> Tensor:
    """Take one random resized crop, uint8 ``[N, ..., size, size]``, of each image or clip of any size."""
    draws = key.draw("crop", CROP_DRAWS)
    return torch.stack(
        [
            _random_resized_crop(image, augment, size, interpolation, row)
            for image, row in zip(images, draws, strict=True)
        ]
    )


def augment_pixels(images: Tensor, augment: Augment, key: RandomKey) -> Tensor:
    """Shift, flip and apply the policy to uint8 ``[N, C, H, W]`` or clips ``[N, T, C, H, W]``; same shape."""
    if augment.shift:
        flat = images.flatten(1, -3)
        images = _shift(flat, augment.shift, key.draw("shift", 2), augment.border).view(images.shape)
    if augment.flip:
        mirrored = torch.from_numpy(_mirrored(augment, key)).to(images.device)
        images = torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)
    if augment.policy == "trivial":
        images = _trivial_augment(images, key.draw("trivial", 3))
    elif augment.policy == "rand":
        images = _rand_augment(images, augment, key.draw("rand", 2 * augment.rand_ops))
    return images


def _mirrored(augment: Augment, key: RandomKey) -> NDArray[np.bool_]:
    """Return whether each item of a batch is mirrored."""
    if not augment.alternate_flip:
        return key.draw("flip", 1)[:, 0] < 0.5
    return (key.draw_per_item("alternate flip") < 0.5) ^ (key.epoch % 2 == 1)


def erase(images: Tensor, share: float, key: RandomKey) -> Tensor:
    """Set rectangles of 2 to 33% of the area of normalised float ``[N, C, H, W]`` to 0, the mean; in place."""
    height, width = images.shape[2:]
    boxes = [_erased_box(height, width, draw) if draw[0] < share else None for draw in key.draw("erase", 5)]
    if images.device.type == "cpu":  # which writes the boxes alone faster than it masks all pixels; a GPU does not
        for row, box in zip(images, boxes, strict=True):
            if box is not None:
                top, bottom, left, right = box
                row[:, top:bottom, left:right] = 0
        return images
    return images.masked_fill_(_inside(boxes, height, width, images.device), 0)


def _erased_box(height: int, width: int, draw: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of a rectangle; bottom and right are outside."""
    area = height * width * (0.02 + draw[1] * (0.33 - 0.02))
    ratio = math.exp(math.log(0.3) + draw[2] * (math.log(3.3) - math.log(0.3)))
    h = min(height, max(1, round(math.sqrt(area * ratio))))
    w = min(width, max(1, round(math.sqrt(area / ratio))))
    top, left = int(draw[3] * (height - h + 1)), int(draw[4] * (width - w + 1))
    return top, top + h, left, left + w


def _inside(boxes: Sequence[tuple[int, int, int, int] | None], height: int, width: int, device: torch.device) -> Tensor:
    """Return which pixels are in the box of their image, bool ``[N, 1, H, W]``, by a few operations on all images."""
    placed = torch.tensor([box or (0, 0, 0, 0) for box in boxes]).view(-1, 4, 1, 1, 1).to(device)
    top, bottom, left, right = placed.unbind(1)
    y, x = torch.arange(height, device=device).view(-1, 1), torch.arange(width, device=device)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


def mix(images: Tensor, targets: Tensor, *, mixup: float, cutmix: float, key: RandomKey) -> tuple[Tensor, Tensor]:
    """Mix each image with its neighbour in the batch: mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019).

    Args:
        images: normalised ``[N, C, H, W]``.
        targets: probabilities ``[N, num_classes]``.
        mixup, cutmix: the Beta distribution's parameter, 0 for off; with both on, one is drawn per batch.
    """
    random = generator(key.seed, "mix", key.step)
    use_cutmix = cutmix > 0 and (mixup <= 0 or random.random() < 0.5)
    alpha = cutmix if use_cutmix else mixup
    keep = float(random.beta(alpha, alpha))
    other, other_targets = images.roll(1, 0), targets.roll(1, 0)
    if use_cutmix:
        top, bottom, left, right = _cutmix_box(images.shape[2], images.shape[3], keep, random)
        images = images.clone()
        images[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
        keep = 1 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    else:
        images = images.lerp(other, 1 - keep)
    return images, targets * keep + other_targets * (1 - keep)


def _cutmix_box(height: int, width: int, keep: float, random: np.random.Generator) -> tuple[int, int, int, int]:
    side = math.sqrt(1 - keep)
    half_h, half_w = int(side * height / 2), int(side * width / 2)
    y, x = int(random.random() * height), int(random.random() * width)
    return max(0, y - half_h), min(height, y + half_h), max(0, x - half_w), min(width, x + half_w)


def _random_resized_crop(
    image: Tensor, augment: Augment, size: int, interpolation: str, draw: NDArray[np.float64]
) -> Tensor:
    assert augment.crop_scale is not None
    height, width = image.shape[-2:]
    top, left, h, w = _crop_box(height, width, augment.crop_scale, augment.crop_ratio, draw)
    return resize_to(image[..., top : top + h, left : left + w], size, size, interpolation)


def _crop_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], draw: NDArray[np.float64]
) -> tuple[int, int, int, int]:
    """Crop as torchvision's RandomResizedCrop: ten tries, then the largest centre crop of an allowed ratio."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for area_draw, ratio_draw, top_draw, left_draw in draw.reshape(10, 4):
        area = height * width * (scale[0] + area_draw * (scale[1] - scale[0]))
        shape = math.exp(low + ratio_draw * (high - low))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            return int(top_draw * (height - h + 1)), int(left_draw * (width - w + 1)), h, w
    shape = min(max(width / height, ratio[0]), ratio[1])
    w, h = (width, round(width / shape)) if width / height < shape else (round(height * shape), height)
    w, h = min(w, width), min(h, height)
    return (height - h) // 2, (width - w) // 2, h, w


def _shift(images: Tensor, by: int, draw: NDArray[np.float64], border: str = "zeros") -> Tensor:
    """Pad and crop at random offsets, all images of the batch at once."""
    count, _, height, width = images.shape
    padded = _reflected(images, by) if border == "reflect" else torch.nn.functional.pad(images, [by] * 4)
    offsets = torch.from_numpy((draw * (2 * by + 1)).astype(np.int64)).to(images.device)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view, [N, C, 2 by + 1, 2 by + 1, H, W]
    shifted: Tensor = windows[torch.arange(count, device=images.device), :, offsets[:, 0], offsets[:, 1]]
    return shifted.contiguous()


def _reflected(images: Tensor, by: int) -> Tensor:
    """Pad ``[N, C, H, W]`` by its pixels in reverse order, without the edge itself, as numpy's ``reflect``."""
    for axis in (2, 3):
        last = images.shape[axis] - 1
        place = torch.arange(-by, last + by + 1, device=images.device)
        period = max(1, 2 * last)  # shifts wider than the image reflect again
        place = place.remainder(period)
        images = images.index_select(axis, torch.minimum(place, period - place) if last else place * 0)
    return images


_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_SIGNED = (*_GEOMETRIC, "brightness", "color", "contrast", "sharpness")
OPERATIONS = ("identity", *_SIGNED, "posterize", "solarize", "auto_contrast", "equalize")
"""TrivialAugment's and RandAugment's operations."""


def apply_operation(image: Tensor, name: str, strength: float) -> Tensor:
    """Apply one operation to uint8 ``[..., C, H, W]`` at a strength in its own unit, as torchvision's policies do."""
    if name in _GEOMETRIC:
        return _apply_geometric(image, name, strength)
    factors = {
        "brightness": pixel_operations.adjust_brightness,
        "color": pixel_operations.adjust_saturation,
        "contrast": pixel_operations.adjust_contrast,
        "sharpness": pixel_operations.adjust_sharpness,
    }
    if name in factors:
        if name == "color" and image.shape[-3] != 3:  # saturation needs colours
            return image
        return factors[name](image, 1.0 + strength)
    if name == "posterize":
        return pixel_operations.posterize(image, int(strength))
    if name == "solarize":
        return pixel_operations.solarize(image, strength)
    if name == "auto_contrast":
        return pixel_operations.autocontrast(image)
    return pixel_operations.equalize(image) if name == "equalize" else image


def _apply_geometric(image: Tensor, name: str, strength: float) -> Tensor:
    if name == "rotate":
        return pixel_operations.rotate(image, strength)
    if name.startswith("translate"):
        pixels = int(strength)
        return pixel_operations.translate(image, *((pixels, 0) if name == "translate_x" else (0, pixels)))
    degrees = math.degrees(math.atan(strength))
    return pixel_operations.shear(image, *((degrees, 0.0) if name == "shear_x" else (0.0, degrees)))


def _trivial_augment(images: Tensor, draw: NDArray[np.float64]) -> Tensor:
    """Apply one operation per image at one of 31 random strengths."""
    changed = []
    for image, (which, strength, sign) in zip(images, draw, strict=True):
        name = OPERATIONS[int(which * len(OPERATIONS))]
        changed.append(apply_operation(image, name, _trivial_strength(name, int(strength * 31), sign)))
    return torch.stack(changed)


def _trivial_strength(name: str, level: int, sign: float) -> float:
    most = {"shear_x": 0.99, "shear_y": 0.99, "translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0}
    if name == "posterize":
        return float(8 - round(level / ((31 - 1) / 6)))
    if name == "solarize":
        return 255.0 * (1 - level / 30)
    strength = most.get(name, 0.99) * level / 30
    return -strength if name in _SIGNED and sign < 0.5 else strength


def _rand_augment(images: Tensor, augment: Augment, draw: NDArray[np.float64]) -> Tensor:
    """Apply `rand_ops` random operations per image, all at the same strength."""
    changed = []
    for image, row in zip(images, draw, strict=True):
        for which, sign in row.reshape(-1, 2):
            name = OPERATIONS[int(which * len(OPERATIONS))]
            image = apply_operation(image, name, _rand_strength(name, augment.rand_magnitude, sign, image.shape))
        changed.append(image)
    return torch.stack(changed)


def _rand_strength(name: str, magnitude: int, sign: float, shape: Sequence[int]) -> float:
    share = magnitude / 30
    most = {
        "shear_x": 0.3,
        "shear_y": 0.3,
        "translate_x": 150.0 / 331.0 * shape[-1],
        "translate_y": 150.0 / 331.0 * shape[-2],
        "rotate": 30.0,
    }
    if name == "posterize":
        return float(8 - round(magnitude / ((31 - 1) / 4)))
    if name == "solarize":
        return 255.0 * (1 - share)
    strength = most.get(name, 0.9) * share
    return -strength if name in _SIGNED and sign < 0.5 else strength
