"""Choose the image size for weights trained on small images: by the cross-validated loss of a head on their features.

A network trained on 32 pixels is convolutional, and finds more in a photo that is not reduced to 32 pixels. How much
more depends on the data, and is measured here on training items alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import torch

from restune.core.console import note, progress, quiet
from restune.core.streams import generator
from restune.data.dataset import Dataset
from restune.data.items import groups_of, targets_of
from restune.data.preprocess.image import ImagePreprocess
from restune.inference.features import FeatureCache
from restune.networks.resnet import SMALL_SIDE, ResNet
from restune.runs.initial import Initial, build_network
from restune.runs.network_choice import typical_side
from restune.training.distributed import World
from restune.training.linear_probe import feature_cache
from restune.training.out_of_fold import out_of_fold
from restune.training.recipe import Recipe

_MULTIPLES = (1, 2, 3, 4)
"""Sizes that are compared, as multiples of the weights' own."""
_MOST_ITEMS = 1_000
_LEAST_GAIN = 0.02
"""Share by which a larger size must lower the loss, since it costs the square of its side in time."""
_LEAST_EPOCHS = 8
"""Epochs that a time budget must leave at a larger size."""
_TRAINING_COST = 4.0
"""Seconds to train on an image, over those to compute its embedding: the backward pass costs two forward passes, and
validation and the optimiser add to it."""


def choose_input_size(initial: Initial, recipe: Recipe, train: Dataset, device: torch.device, world: World) -> Initial:
    """Return the initial state with the image size that suits the data best; unchanged where there is no choice.

    There is a choice where neither recipe nor command line sets the size, and the weights were trained on images of up
    to `SMALL_SIDE` pixels that are smaller than those of the data.

    Args:
        train: the training items; no other items are looked at.
    """
    preprocess = initial.preprocess
    if not isinstance(preprocess, ImagePreprocess) or not has_choice(initial, recipe, train):
        return initial
    side = int(world.agreed(lambda: json.dumps(best_side(initial, recipe, train, device))))
    return initial if side == preprocess.crop else initial.with_preprocess(preprocess.override(image_size=side))


def has_choice(initial: Initial, recipe: Recipe, train: Dataset) -> bool:
    """Return whether weights and data leave a choice of image sizes that the recipe has not made."""
    is_set = recipe.image_size is not None or recipe.preprocess is not None or recipe.smoke
    if is_set or initial.weights is None or not isinstance(initial.preprocess, ImagePreprocess):
        return False
    return initial.preprocess.crop <= SMALL_SIDE and train.task == "single-label" and _has_two_of_each(train)


def _has_two_of_each(train: Dataset) -> bool:
    return min(train.class_counts().values(), default=0) >= 2


def best_side(initial: Initial, recipe: Recipe, train: Dataset, device: torch.device) -> int:
    """Return the image size with the lowest cross-validated loss, with a note; the weights' own for small images."""
    assert isinstance(initial.preprocess, ImagePreprocess)
    own, typical = initial.preprocess.crop, typical_side(train.items)
    sides = [own * multiple for multiple in _MULTIPLES if multiple == 1 or own * multiple <= typical]
    if len(sides) == 1:
        return own
    sample = train
    if len(train) > _MOST_ITEMS:
        chosen = generator(recipe.seed, "input size").permutation(len(train))[:_MOST_ITEMS]
        sample = train.take(np.sort(chosen))
    losses: dict[int, float] = {}
    with progress("compare image sizes", len(sides)) as advance:
        for side, cache in _caches(initial, recipe, train, sides, device):
            losses[side] = _loss(cache, sample, recipe.seed)
            advance(1)
            if losses[side] > (1 + _LEAST_GAIN) * min(losses.values()):
                break  # larger ones are not better either
            if recipe.time is not None and not _fits(cache, len(train), side, sides, recipe.time):
                break
    best = own
    for side, loss in losses.items():
        if loss < (1 - _LEAST_GAIN) * losses[best]:
            best = side
    shown = ", ".join(f"{side}: {loss:.4f}" for side, loss in losses.items())
    note(f"image_size: {best} (cross-validated loss of a head on {len(sample)} training images by pixels: {shown})")
    return best


def _caches(
    initial: Initial, recipe: Recipe, train: Dataset, sides: list[int], device: torch.device
) -> Iterator[tuple[int, FeatureCache]]:
    """Yield each size with the cache of embeddings at that size."""
    with quiet():
        network = build_network(initial, recipe, train.classes, initial.preprocess, train.task)
    assert isinstance(network, ResNet)
    assert isinstance(initial.preprocess, ImagePreprocess)
    for side in sides:
        yield side, feature_cache(network, initial.preprocess.override(image_size=side), recipe, device)


def _loss(cache: FeatureCache, sample: Dataset, seed: int) -> float:
    """Return the mean negative log-likelihood of items by heads that have not seen them."""
    found = cache.of(sample.items)
    targets = targets_of(sample.items)[found.readable].astype(np.int64)
    groups = groups_of(sample.items)
    codes = None if groups is None else groups.numbers[found.readable].astype(np.int64)
    logits = out_of_fold(found.rows[0 : len(found.rows)].float(), targets, len(sample.classes), codes, seed).logits
    return float(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets)))


def _fits(cache: FeatureCache, count: int, side: int, sides: list[int], seconds: float) -> bool:
    """Return whether the next larger size leaves enough epochs in the time budget."""
    larger = next((one for one in sides if one > side), None)
    if larger is None or cache.seconds_an_item is None:
        return True
    an_epoch = _TRAINING_COST * count * cache.seconds_an_item * (larger / side) ** 2
    return _LEAST_EPOCHS * an_epoch <= seconds
