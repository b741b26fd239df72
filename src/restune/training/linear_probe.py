"""The head of a frozen network, from items to solved weights and scores: features once, then a convex problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restune.core.console import note
from restune.core.errors import UserError
from restune.data.augment import Augment
from restune.data.dataset import Dataset
from restune.data.preprocess import Preprocess
from restune.data.splits import Splits
from restune.evaluation.metrics import Counter, Evaluation
from restune.inference.features import FeatureCache, FeatureRows, Features, View
from restune.networks.resnet import ResNet
from restune.training.logistic import Choice, Problem, choose_by_folds, choose_on_validation, mean_loss
from restune.training.objective import balanced_weights
from restune.training.recipe import Recipe

_ENOUGH = 20
"""Validation items that each class needs for the strength to be chosen on them rather than by cross-validation."""
_MOST_VIEWS = 8
_SHARE_OF_TIME = 0.3


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A solved head and what it scores.

    Args:
        choice: the head, and how its L2 strength was chosen.
        train_loss: mean cross-entropy on what it was fitted to.
        val_loss: on the validation items; None without them.
        scores: by side, ``val`` and ``test``, as far as there are items.
        views: of each training item.
        computed, reused: rows that the cache lacked, and had.
    """

    choice: Choice
    train_loss: float
    val_loss: float | None
    scores: dict[str, Evaluation]
    views: int
    computed: int
    reused: int


def feature_cache(network: ResNet, preprocess: Preprocess, recipe: Recipe, device: torch.device) -> FeatureCache:
    """The cache of what this network's head reads, as the recipe has it."""
    return FeatureCache(
        network,
        preprocess,
        device=device,
        bf16=recipe.precision == "bf16",
        on_disk=recipe.cache,
        workers=recipe.workers,
    )


def head_facts(probe: Probe) -> dict[str, Any]:
    """What the result says of a solved head."""
    head = probe.choice.head
    return {
        "l2": head.l2,
        "chosen_by": probe.choice.how,
        "tried": [list(pair) for pair in probe.choice.tried],
        "iterations": head.iterations,
        "objective": head.loss,
        "views": probe.views,
        "features_computed": probe.computed,
        "features_reused": probe.reused,
    }


def reject_what_has_no_optimum(recipe: Recipe) -> None:
    """Raises UserError for settings that a solved head cannot honour."""
    refused = {
        "mixup": recipe.mixup > 0,
        "cutmix": recipe.cutmix > 0,
        "augment.erase": recipe.augment.erase > 0,
        "loss": recipe.loss != "cross-entropy",
        "spec.dropout": bool(recipe.spec.get("dropout")),
    }
    for key, is_set in refused.items():
        if is_set:
            raise UserError(
                f"the head is solved, which {key} does not allow",
                where=f"--set {key}",
                fix="leave it out, or train the head step by step: --set head=sgd",
            )


def fit_head(cache: FeatureCache, recipe: Recipe, splits: Splits, augment: Augment) -> Probe:
    """Solve the head on the training items' features and score it on the others'."""
    train = splits.train
    first = cache.of(train.items)
    views = resolve_views(recipe, augment, cache, train)
    shown = [View(augment=augment, seed=recipe.seed, number=number) for number in range(1, views)]
    tables = [first, *(cache.of(train.items, view) for view in shown)]
    sides: dict[str, tuple[Dataset, FeatureRows, list[int]]] = {}
    for side, data in (("val", splits.val), ("test", splits.test)):
        if data is not None:
            found = cache.of(data.items)
            sides[side] = (data, found.rows.loaded(), [int(index) for index in found.readable])
    problem, choice = _solved(tables, train, recipe, sides)
    if recipe.views is None and views > 1 and choice.how == "validation":
        plain_problem, plain = _solved(tables[:1], train, recipe, sides)
        if plain.least_loss <= choice.least_loss:
            problem, choice, views = plain_problem, plain, 1
            note(f"{len(tables)} views of each item predict the validation items no better than one: one it is")
    scores = {side: _score(choice, *content) for side, content in sides.items()}
    total = sum(len(table.readable) for table in tables) + sum(len(content[2]) for content in sides.values())
    return Probe(
        choice=choice,
        train_loss=mean_loss(choice.head, problem.rows, problem.targets),
        val_loss=mean_loss(choice.head, sides["val"][1], _targets(*sides["val"][::2])) if "val" in sides else None,
        scores=scores,
        views=views,
        computed=cache.computed,
        reused=max(0, total - cache.computed),
    )


def _solved(
    tables: Sequence[Features],
    train: Dataset,
    recipe: Recipe,
    sides: dict[str, tuple[Dataset, FeatureRows, list[int]]],
) -> tuple[Problem, Choice]:
    """The problem that views of the training items pose, and its head."""
    balance = (recipe.class_weights == "balanced") + (recipe.sampling == "balanced")
    counts = list(train.class_counts().values())
    problem = Problem(
        rows=tables[0].rows.joined([table.rows for table in tables[1:]]).loaded().plain(),
        targets=torch.tensor([train.items[index].target for table in tables for index in table.readable]),
        classes=len(train.classes),
        class_weights=balanced_weights(counts) ** balance if balance else None,
        smoothing=recipe.label_smoothing,
    )
    groups = np.concatenate([table.readable for table in tables])
    return problem, _choose(problem, sides, groups, recipe.seed)


def resolve_views(recipe: Recipe, augment: Augment, cache: FeatureCache, train: Dataset) -> int:
    """How many views of each training item to try: as asked, else as many as a share of the time allows, else one."""
    changes = augment != Augment(repeats=augment.repeats)
    if recipe.views is not None:
        if recipe.views > 1 and not changes:
            raise UserError("views differ by augmentation, and none is on", where="--views", fix="leave it out")
        return recipe.views
    if recipe.time is None or not changes:
        return 1
    seconds_a_view = len(train) * cache.time_an_item(train.items)
    return max(1, min(_MOST_VIEWS, int(_SHARE_OF_TIME * recipe.time / max(1e-9, seconds_a_view))))


def describe_probe(probe: Probe) -> str:
    """What was done, in a line for the screen."""
    head = probe.choice.head
    kept = f"{probe.computed} features computed, {probe.reused} from the cache"
    return (
        f"{kept}; the head is solved: L2 {head.l2:.3g} chosen by {probe.choice.how} among {len(probe.choice.tried)}, "
        f"{head.iterations} iterations, training loss {probe.train_loss:.4f}"
    )


def _choose(
    problem: Problem, sides: dict[str, tuple[Dataset, FeatureRows, list[int]]], groups: np.ndarray, seed: int
) -> Choice:  # fmt: skip
    if "val" in sides:
        data, rows, readable = sides["val"]
        targets = _targets(data, readable)
        if int(torch.bincount(targets, minlength=problem.classes).min()) >= _ENOUGH:
            return choose_on_validation(problem, rows.plain(), targets)
    return choose_by_folds(problem, groups, seed)


def _score(choice: Choice, data: Dataset, rows: FeatureRows, readable: Sequence[int]) -> Evaluation:
    counter = Counter(data.classes)
    size = 4096
    for start in range(0, len(readable), size):
        part = [data.items[index] for index in readable[start : start + size]]
        logits = choice.head.logits(rows[start : start + size])
        counter.add([item.id for item in part], [item.target for item in part], logits)
    return counter.evaluation(data=data.source, fingerprint=data.fingerprint())


def _targets(data: Dataset, readable: Sequence[int]) -> Tensor:
    return torch.tensor([data.items[index].target for index in readable])


def say_views(probe: Probe, augment: Augment) -> None:
    """That no augmentation was used, where the recipe has some."""
    if probe.views == 1 and augment != Augment(repeats=augment.repeats):
        note("the head saw each image as it is; --views 4 adds three augmented views of each")
