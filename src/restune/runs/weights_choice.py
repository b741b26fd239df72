"""Choose the weights to fine-tune (``--weights auto``): by the cross-validated loss of a head fitted to their features.

Every candidate's embeddings of the training items come from the feature cache, so that the candidate that is taken does
not compute them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from restune.core.console import note, progress, quiet, warn
from restune.core.errors import UserError, shorten
from restune.core.streams import generator
from restune.data.dataset import Dataset
from restune.data.items import groups_of, targets_of
from restune.data.kinds import Kind
from restune.inference.features import FeatureCache
from restune.networks import zoo
from restune.networks.resnet import ResNet
from restune.runs.data import RunData
from restune.runs.default_weights import finished_runs, fitting_header
from restune.runs.initial import Initial, build_network, initial_state
from restune.runs.input_size import best_side, has_choice
from restune.runs.splitting import drawn_splits
from restune.training.distributed import World
from restune.training.linear_probe import feature_cache
from restune.training.out_of_fold import FOLDS, out_of_fold
from restune.training.recipe import Recipe
from restune.weights import hub

AUTO = "auto"
_MOST_ITEMS = 4_000
"""Training items that candidates are compared on; drawn at random from more."""
_MOST_RUNS = 10


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A candidate and how well a head on its features predicts training items that the head has not seen.

    Args:
        weights: the name or path to name them by.
        model: the zoo's name of the network, or ``home-made``.
        licence: of the weights; None if unknown.
        loss: mean negative log-likelihood of the out-of-fold predictions.
        accuracy: of the same predictions.
        n: number of items.
        image_size: side of the images that it was compared on; None where it follows from weights or recipe.
    """

    weights: str
    model: str
    licence: str | None
    loss: float
    accuracy: float
    n: int
    image_size: int | None = None


def choose_weights(
    recipe: Recipe, data: RunData, device: torch.device, world: World, encoding: str | None = None
) -> tuple[Recipe, list[Ranked]]:
    """Return the recipe with the best weights at hand, and all of them, best first. No test item is looked at.

    Candidates are bundled weights, published ones in the cache and finished runs in ``runs/``, for this kind of data.
    Raises UserError where there are none, and for tasks other than one class per item.
    """
    if data.train.task != "single-label":
        raise UserError(
            f"weights are compared by how well they tell classes apart; this is {data.train.task} data",
            where="--weights auto", fix="name weights",
        )  # fmt: skip
    text = world.agreed(lambda: json.dumps([asdict(one) for one in _ranked(recipe, data, device, encoding)]))
    ranked = [Ranked(**one) for one in json.loads(text)]
    best = ranked[0]
    for one in ranked:
        note(
            f"weights {one.weights} ({one.model}, licence {one.licence or 'unknown'}) have a cross-validated loss of "
            f"{one.loss:.4f} and accuracy of {one.accuracy:.2%} on {one.n} training items"
        )
    note(f"weights: {best.weights} (the lowest cross-validated loss of {len(ranked)} at hand)")
    if best.licence is not None and "NC" in best.licence.upper().replace("-", " ").split():
        warn(f"the licence of {best.weights} is {best.licence}: no commercial use")
    chosen = {} if best.image_size is None else {"image_size": best.image_size}
    return recipe.changed({"weights": best.weights, **chosen}), ranked


def _ranked(recipe: Recipe, data: RunData, device: torch.device, encoding: str | None) -> list[Ranked]:
    names = list(dict.fromkeys(candidates(data.kind, recipe.model)))
    if not names:
        raise UserError(
            f"there are no weights at hand for {data.kind.noun}: none in the cache, no finished run in runs/",
            where="--weights auto", fix="name weights with --weights, or train from scratch: restune train",
        )  # fmt: skip
    train: Dataset | None = None
    ranked, failed = [], {}
    with progress("compare weights", len(names)) as advance:
        for name in names:
            try:
                with quiet():
                    initial, described = _described(name, recipe, data.train, encoding)
                    cache = _features_of(initial, recipe, data.train, device)
                    if train is None:
                        train = _training_items(data, cache, recipe)
                    side = best_side(initial, recipe, train, device) if has_choice(initial, recipe, train) else None
                    if side is not None:
                        initial = initial.with_preprocess(initial.preprocess.override(image_size=side))
                        cache = _features_of(initial, recipe, data.train, device)
                    ranked.append(_score(name, {**described, "image_size": side}, cache, train, recipe.seed))
            except UserError as error:
                failed[name] = error.what
            advance(1)
    if failed:
        note(f"not compared: {shorten((f'{name} ({reason})' for name, reason in failed.items()), 3)}")
    if not ranked:
        raise UserError(
            "none of the weights at hand fits this data", where="--weights auto",
            fix=f"name weights with --weights; {shorten(failed, 3)} failed",
        )  # fmt: skip
    return sorted(ranked, key=lambda one: one.loss)


def candidates(kind: Kind, model: str | None) -> Iterator[str]:
    """Yield the weights at hand that take this kind of data: bundled ones and published ones in the cache, then runs,
    newest first."""
    for name, entry in zoo.ZOO.items():
        if entry.kind == kind.name and model in (None, name):
            yield from (reference for reference in hub.available(name) if hub.cached(reference))
    fitting = (str(file.parent) for file in finished_runs() if fitting_header(file, kind, model) is not None)
    yield from islice(fitting, _MOST_RUNS)


def _described(name: str, recipe: Recipe, dataset: Dataset, encoding: str | None) -> tuple[Initial, dict[str, Any]]:
    """Return a candidate with its network's name and licence. Raises UserError if it does not fit."""
    initial = initial_state(recipe.changed({"weights": name}), dataset, "finetune", encoding)
    licence = None if initial.weights is None else initial.weights.licence
    return initial, {"model": initial.name or "home-made", "licence": licence}


def _features_of(initial: Initial, recipe: Recipe, dataset: Dataset, device: torch.device) -> FeatureCache:
    """Return the feature cache of a candidate."""
    network = build_network(initial, recipe, dataset.classes, initial.preprocess)
    assert isinstance(network, ResNet)
    return feature_cache(network, initial.preprocess, recipe, device)


def _training_items(data: RunData, cache: FeatureCache, recipe: Recipe) -> Dataset:
    """Return the items that the run will train on, as its split will draw them; at most `_MOST_ITEMS`."""
    everything = data.items()
    unreadable = cache.of(everything).failures
    train = drawn_splits(data, unreadable, cache.contents(), recipe).train
    if len(train) <= _MOST_ITEMS:
        return train
    chosen = generator(recipe.seed, "weights choice").permutation(len(train))[:_MOST_ITEMS]
    return train.take(np.sort(chosen))


def _score(name: str, described: dict[str, Any], cache: FeatureCache, train: Dataset, seed: int) -> Ranked:
    found = cache.of(train.items)
    rows = found.rows[0 : len(found.rows)].float()
    targets = targets_of(train.items)[found.readable].astype(np.int64)
    groups = groups_of(train.items)
    codes = None if groups is None else groups.numbers[found.readable].astype(np.int64)
    if min(np.bincount(targets, minlength=len(train.classes))) < 2:
        raise UserError(f"every class needs two training items to compare weights in {FOLDS} folds")
    logits = torch.from_numpy(out_of_fold(rows, targets, len(train.classes), codes, seed).logits)
    known = torch.from_numpy(targets)
    return Ranked(
        weights=name,
        **described,
        loss=float(torch.nn.functional.cross_entropy(logits, known)),
        accuracy=float((logits.argmax(dim=1) == known).float().mean()),
        n=len(targets),
    )
