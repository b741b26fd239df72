"""Choose the image size for weights trained on small images: by the cross-validated loss of a head on their features.

A network trained on 32 pixels is convolutional, and finds more in a photo that is not reduced to 32 pixels. Whether
twice its size suits the data is measured here on training items alone. Still larger sizes brought nothing beyond chance
on photos (docs/fine-tune.md has figures), and cost 2.25 to 4 times as much.
"""

from __future__ import annotations

import json
import math
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

_MULTIPLE = 2
"""The size that is compared with the weights' own, as a multiple of it."""
_MOST_ITEMS = 1_000
_FOLDINGS = 3
"""Times that the items are divided into folds: with a few hundred items, one division decides by luck."""
_TOLERANCE = 0.02
"""Share by which the loss of a larger size may be higher: a head gains less from detail than trained layers."""
_LEAST_EPOCHS = 8
"""Epochs that a time budget must leave at the larger size."""
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
    """Return twice the weights' own image size where a head's cross-validated loss is hardly higher there, with a note;
    else their own, as for small images."""
    assert isinstance(initial.preprocess, ImagePreprocess)
    own, typical = initial.preprocess.crop, typical_side(train.items)
    twice = own * _MULTIPLE
    if twice > typical:
        return own
    sample = train
    if len(train) > _MOST_ITEMS:
        chosen = generator(recipe.seed, "input size").permutation(len(train))[:_MOST_ITEMS]
        sample = train.take(np.sort(chosen))
    losses: dict[int, float] = {}
    sides = (own, twice)
    with progress("compare image sizes", len(sides)) as advance:
        for side, cache in _caches(initial, recipe, train, sides, device):
            losses[side] = _loss(cache, sample, recipe.seed)
            advance(1)
            if recipe.time is not None and not _twice_fits(cache, len(train), recipe.time):
                break
    best = twice if losses.get(twice, math.inf) <= (1 + _TOLERANCE) * losses[own] else own
    shown = ", ".join(f"{side}: {loss:.4f}" for side, loss in losses.items())
    note(f"image_size: {best} (cross-validated loss of a head on {len(sample)} training images by pixels: {shown})")
    return best


def _caches(
    initial: Initial, recipe: Recipe, train: Dataset, sides: tuple[int, ...], device: torch.device
) -> Iterator[tuple[int, FeatureCache]]:
    """Yield each size with the cache of embeddings at that size."""
    with quiet():
        network = build_network(initial, recipe, train.classes, initial.preprocess, train.task)
    assert isinstance(network, ResNet)
    assert isinstance(initial.preprocess, ImagePreprocess)
    for side in sides:
        yield side, feature_cache(network, initial.preprocess.override(image_size=side), recipe, device)


def _loss(cache: FeatureCache, sample: Dataset, seed: int) -> float:
    """Return the mean negative log-likelihood of items by heads that have not seen them, over several foldings."""
    found = cache.of(sample.items)
    targets = targets_of(sample.items)[found.readable].astype(np.int64)
    groups = groups_of(sample.items)
    codes = None if groups is None else groups.numbers[found.readable].astype(np.int64)
    rows, classes = found.rows[0 : len(found.rows)].float(), len(sample.classes)
    losses = []
    for folding in range(_FOLDINGS):
        logits = out_of_fold(rows, targets, classes, codes, seed + folding).logits
        losses.append(torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets)))
    return float(torch.stack(losses).mean())


def _twice_fits(cache: FeatureCache, count: int, seconds: float) -> bool:
    """Return whether training at twice the size of this cache leaves enough epochs in the time budget."""
    if cache.seconds_an_item is None:
        return True
    return _LEAST_EPOCHS * _TRAINING_COST * count * cache.seconds_an_item * _MULTIPLE**2 <= seconds
