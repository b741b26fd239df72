"""A linear probe: the head of a frozen network fitted by logistic regression to embeddings computed once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restune.core.console import note
from restune.core.errors import UserError
from restune.data.augment import Augment
from restune.data.dataset import Dataset, Item
from restune.data.loader import RETRY_PAUSES
from restune.data.preprocess import Preprocess
from restune.data.splits import Splits
from restune.data.targets import Outputs, TargetScale
from restune.evaluation.metrics import balanced_scores
from restune.evaluation.tasks import AnyEvaluation, builder_for
from restune.inference.features import FeatureCache, FeatureRows, Features, View
from restune.networks.resnet import ResNet
from restune.training.label_heads import LabelProblem, choose_label_head, label_loss, label_outputs
from restune.training.logistic import Choice, Head, Problem, choose_by_folds, choose_on_validation, mean_loss
from restune.training.objective import balanced_weights
from restune.training.recipe import Recipe
from restune.training.task_scores import task_scores
from restune.training.validation import lost_item

_ENOUGH = 20
"""Validation items per class from which the L2 strength is chosen on them instead of by cross-validation."""
_MOST_VIEWS = 8
_ROWS = 4096
"""Rows scored per batch."""
_SHARE_OF_TIME = 0.3


@dataclass(frozen=True, kw_only=True)
class LinearProbe:
    """A fitted head.

    Args:
        choice: the head, and how its L2 strength was chosen.
        train_loss: mean cross-entropy on the training items.
        val_scores: ``val_loss``, ``val_accuracy``, ``val_balanced_accuracy`` and ``val_macro_f1``; empty without
            validation items.
        views: views per training item.
        computed, reused: embeddings computed now, and embeddings read from the cache.
        method: how the head was fitted.
    """

    choice: Choice
    train_loss: float
    val_scores: dict[str, float]
    views: int
    computed: int
    reused: int
    method: str = "logistic regression"


@dataclass(frozen=True)
class _HeldOut:
    """The validation items: embeddings ``[N, D]`` and class indices ``[N]``."""

    rows: FeatureRows
    targets: Tensor


def feature_cache(network: ResNet, preprocess: Preprocess, recipe: Recipe, device: torch.device) -> FeatureCache:
    """Return the cache of this network's embeddings, with the recipe's precision, workers and storage."""
    return FeatureCache(
        network,
        preprocess,
        device=device,
        bf16=recipe.precision == "bf16",
        on_disk=recipe.cache,
        workers=recipe.workers,
    )


def probe_facts(probe: LinearProbe) -> dict[str, Any]:
    """Return the fitted head's entry in result.json."""
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


def reject_settings_without_optimum(recipe: Recipe, task: str = "single-label") -> None:
    """Raise UserError for settings that logistic regression, or ridge regression, does not support."""
    refused = {
        "mixup": recipe.mixup > 0,
        "cutmix": recipe.cutmix > 0,
        "augment.erase": recipe.augment.erase > 0,
        "loss": task == "single-label" and recipe.loss != "cross-entropy",
        "spec.dropout": bool(recipe.spec.get("dropout")),
    }
    for key, is_set in refused.items():
        if is_set:
            raise UserError(
                f"{key} does not allow fitting the head by logistic regression",
                where=f"--set {key}",
                fix="leave it out, or train the head by SGD: --set head=sgd",
            )


def fit_head(cache: FeatureCache, recipe: Recipe, splits: Splits, augment: Augment) -> LinearProbe:
    """Fit the head to the training items' embeddings; choose L2 strength and views on the validation items."""
    train = splits.train
    if train.task != "single-label":
        return _fit_label_head(cache, recipe, splits, augment)
    first = _all_of(cache, train.items)
    views = resolve_views(recipe, augment, cache, train)
    shown = [View(augment=augment, seed=recipe.seed, number=number) for number in range(1, views)]
    tables = [first, *(_all_of(cache, train.items, view) for view in shown)]
    val = None if splits.val is None else _held_out(cache, splits.val)
    problem, choice = _fitted(tables, train, recipe, val)
    if recipe.views is None and views > 1 and choice.how == "validation":
        plain_problem, plain = _fitted(tables[:1], train, recipe, val)
        if plain.least_loss <= choice.least_loss:
            problem, choice, views = plain_problem, plain, 1
            note(f"{len(tables)} views per item do not lower the validation loss: using 1")
    total = sum(len(table.readable) for table in tables) + (0 if val is None else len(val.targets))
    return LinearProbe(
        choice=choice,
        train_loss=mean_loss(choice.head, problem.rows, problem.targets),
        val_scores={} if val is None else _val_scores(choice.head, val, len(train.classes)),
        views=views,
        computed=cache.computed,
        reused=max(0, total - cache.computed),
    )


def _fit_label_head(cache: FeatureCache, recipe: Recipe, splits: Splits, augment: Augment) -> LinearProbe:
    """Fit a logistic regression per label, or ridge regression, to the training items' embeddings."""
    train, scale = splits.train, splits.target_scale()
    views = resolve_views(recipe, augment, cache, train)
    shown = [View(augment=augment, seed=recipe.seed, number=number) for number in range(1, views)]
    tables = [_all_of(cache, train.items, view) for view in (None, *shown)]
    smoothing = recipe.label_smoothing if train.task == "multi-label" else 0.0
    problem = LabelProblem(
        task=train.task,
        rows=tables[0].rows.joined([table.rows for table in tables[1:]]).loaded().plain(),
        targets=torch.cat([_value_rows(train, scale, table) for table in tables]) * (1 - smoothing) + smoothing / 2,
        loss=recipe.loss,
    )
    val = None
    if splits.val is not None:
        found = _all_of(cache, splits.val.items)
        val = found.rows.loaded().plain(), _value_rows(splits.val, scale, found)
    groups = np.concatenate([table.readable for table in tables])
    enough = val is not None and len(val[1]) >= _ENOUGH
    choice = choose_label_head(problem, val if enough else None, groups, recipe.seed)
    scores = {}
    if val is not None:
        scores = task_scores(train.task, recipe.loss, label_outputs(choice.head, val[0]), val[1], scale)
    total = len(groups) + (0 if val is None else len(val[1]))
    return LinearProbe(
        choice=choice,
        train_loss=label_loss(choice.head, problem.rows, problem.targets, recipe.loss),
        val_scores=scores,
        views=views,
        computed=cache.computed,
        reused=max(0, total - cache.computed),
        method="logistic regression per label" if train.task == "multi-label" else "ridge regression",
    )


def _value_rows(data: Dataset, scale: TargetScale | None, table: Features) -> Tensor:
    """Return the target values of the items of a table ``[N, C]``, as the loss takes them."""
    values = data.values() if scale is None else scale.standardized(data.values())
    return torch.from_numpy(values[table.readable])


def score_embeddings(
    head: Head,
    cache: FeatureCache,
    dataset: Dataset,
    source: str,
    outputs: Outputs = Outputs(),  # noqa: B008
) -> AnyEvaluation:
    """Score a fitted head on a data set's cached embeddings.

    Args:
        source: source of the model, as recorded in the evaluation.
        outputs: what the head's outputs mean.
    """
    started = time.perf_counter()
    embeddings = cache.of(dataset.items)
    builder = builder_for(dataset.classes, outputs, dataset)
    rows = embeddings.rows.loaded()
    for start in range(0, len(embeddings.readable), _ROWS):
        items = [dataset.items[index] for index in embeddings.readable[start : start + _ROWS]]
        part = rows[start : start + _ROWS]
        builder.add([item.id for item in items], [item.target for item in items], head.logits(part), part)
    return builder.evaluation(
        skipped=tuple(embeddings.failures.items()),
        model=source,
        data=dataset.source,
        fingerprint=dataset.fingerprint(),
        seconds=time.perf_counter() - started,
    )


def _held_out(cache: FeatureCache, data: Dataset) -> _HeldOut:
    embeddings = _all_of(cache, data.items)
    targets = torch.tensor([data.items[index].target for index in embeddings.readable])
    return _HeldOut(embeddings.rows.loaded(), targets)


def _all_of(cache: FeatureCache, items: Sequence[Item], view: View | None = None) -> Features:
    """The features of every item. Raises UserError for one that cannot be read: it could be when the data was split."""
    found = cache.of(items, view)
    for pause in RETRY_PAUSES:
        if not found.failures:
            break
        time.sleep(pause)
        cache.forget(found.failures)
        found = cache.of(items, view)
    for name, reason in found.failures.items():
        raise lost_item(name, reason)
    return found


def _val_scores(head: Head, val: _HeldOut, classes: int) -> dict[str, float]:
    predicted = torch.cat(
        [head.logits(val.rows[i : i + _ROWS]).softmax(dim=1).argmax(dim=1) for i in range(0, len(val.targets), _ROWS)]
    )
    right = val.targets[predicted == val.targets]
    hits, actual, guessed = (torch.bincount(v, minlength=classes).numpy() for v in (right, val.targets, predicted))
    balanced, macro_f1 = balanced_scores(hits, actual, guessed)
    return {
        "val_loss": mean_loss(head, val.rows, val.targets),
        "val_accuracy": len(right) / len(val.targets),
        "val_balanced_accuracy": balanced,
        "val_macro_f1": macro_f1,
    }


def _fitted(
    tables: Sequence[Features], train: Dataset, recipe: Recipe, val: _HeldOut | None
) -> tuple[Problem, Choice]:  # fmt: skip
    """Build the problem from views of the training items and choose its head."""
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
    enough = val is not None and int(torch.bincount(val.targets, minlength=problem.classes).min()) >= _ENOUGH
    if val is not None and enough:
        return problem, choose_on_validation(problem, val.rows.plain(), val.targets)
    return problem, choose_by_folds(problem, groups, recipe.seed)


def resolve_views(recipe: Recipe, augment: Augment, cache: FeatureCache, train: Dataset) -> int:
    """Return the number of views per training item: as set, else as many as a share of the time allows, else 1."""
    changes = augment != Augment(repeats=augment.repeats)
    if recipe.views is not None:
        if recipe.views > 1 and not changes:
            raise UserError("several views need augmentation, but it is off", where="--views", fix="leave it out")
        return recipe.views
    if recipe.time is None or not changes:
        return 1
    seconds_a_view = len(train) * cache.time_an_item(train.items)
    return max(1, min(_MOST_VIEWS, int(_SHARE_OF_TIME * recipe.time / max(1e-9, seconds_a_view))))


def describe_probe(probe: LinearProbe) -> str:
    """Describe the fitted head in one line."""
    head = probe.choice.head
    return (
        f"{probe.computed} embeddings computed, {probe.reused} from the cache; head fitted ({probe.method}): "
        f"L2 {head.l2:.3g} chosen by {probe.choice.how} among {len(probe.choice.tried)}, "
        f"{head.iterations} iterations, training loss {probe.train_loss:.4f}"
    )


def note_single_view(probe: LinearProbe, augment: Augment) -> None:
    """Print that the head was fitted without augmentation, if the recipe has some."""
    if probe.views == 1 and augment != Augment(repeats=augment.repeats):
        note("the head was fitted without augmentation; --views 4 adds three augmented views per item")
