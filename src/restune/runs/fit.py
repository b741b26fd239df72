"""Fit a prepared network: train it step by step, or fit its head on frozen features. No test item is touched."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable

import torch

from restune.core.allocator import freed_memory_kept
from restune.core.console import note
from restune.core.errors import UserError
from restune.core.files import write_text
from restune.data.batches import TrainingBatches
from restune.data.items import Joined
from restune.data.resident import resident
from restune.data.splits import Splits
from restune.networks.custom import Network
from restune.networks.resnet import ResNet
from restune.runs.custom import Custom
from restune.runs.lengthen import describe_lengthening
from restune.runs.novelty import novelty_cost
from restune.runs.prepare import Prepared, compute_together, place_network
from restune.runs.versions import versions
from restune.training.feature_batches import FeatureBatches, make_feature_batches
from restune.training.linear_probe import (
    LinearProbe,
    describe_probe,
    feature_cache,
    fit_head,
    note_single_view,
    probe_facts,
)
from restune.training.loop import Fitted, OnEpoch, Trainer
from restune.training.metrics_log import EpochRecord, describe_task_scores
from restune.training.recipe import Recipe
from restune.training.task_scores import TASK_SCORES, learnt_values
from restune.training.teacher import Teacher, make_teacher
from restune.training.validation import VAL_SCORES, Validation


def fit(
    prepared: Prepared,
    recipe: Recipe,
    on_epoch: OnEpoch | None = None,
    custom: Custom = Custom(),  # noqa: B008
) -> Fitted:
    """Fit the network of `prepared`, in place, by a resolved recipe.

    Args:
        prepared: its network holds the initial weights.
        recipe: resolved: no ``auto`` left.
        on_epoch: called after each epoch with its record; an exception that it raises ends the run.
        custom: loss, augmentation and callback of the caller's own.

    Touches training and validation items only. Processes other than the first return their own weights, which are the
    same. Raises UserError; Interrupted when a signal asked to stop, once the state is written.
    """
    return _fit_head(prepared, recipe, on_epoch) if recipe.fits_head else _train(prepared, recipe, on_epoch, custom)


def _fit_head(prepared: Prepared, recipe: Recipe, on_epoch: OnEpoch | None) -> Fitted:
    """Fit the head by logistic regression on the embeddings of the training items."""
    cache, splits, folder = prepared.embeddings, prepared.splits, prepared.workspace.folder
    assert cache is not None
    assert isinstance(prepared.network, ResNet)
    started = time.perf_counter()
    probe = fit_head(cache, recipe, splits, prepared.augment)
    note(describe_probe(probe))
    note_single_view(probe, prepared.augment)
    _set_head(prepared.network, probe)
    record = EpochRecord(
        epoch=1, step=probe.choice.head.iterations, train_loss=probe.train_loss, **probe.val_scores
    )  # fmt: skip
    seconds = time.perf_counter() - started
    timing = {"epoch": 1, "seconds": round(seconds, 3), "features_computed": probe.computed}
    if prepared.workspace.world.is_main:
        write_text(folder / "metrics.jsonl", json.dumps(record.to_dict()) + "\n")
        write_text(folder / "timings.jsonl", json.dumps(timing | {"features_reused": probe.reused}) + "\n")
        if on_epoch is not None:
            on_epoch(record)
    return Fitted(
        state_dict=prepared.network.state_dict(),
        best_epoch=None if record.score(recipe.monitor) is None else 1,
        epochs=1,
        steps=probe.choice.head.iterations,
        images=probe.views * len(splits.train),
        seconds=seconds,
        resumed_from_step=None,
        more={"head": probe_facts(probe)},
    )


def _train(prepared: Prepared, recipe: Recipe, on_epoch: OnEpoch | None, custom: Custom) -> Fitted:
    """Train for epochs of steps; with ``freeze: auto``, start from a head fitted on the frozen network."""
    workspace = prepared.workspace
    network = place_network(prepared.network, recipe, workspace.device)
    trainer = _trainer(prepared, recipe, network, on_epoch, custom)
    if workspace.continues and trainer.resume(accept_changes=workspace.accept_changes):
        note(f"resumed from step {trainer.resumed_from_step}")
        if recipe.lengthened and recipe.lengthened[-1].until_step == trainer.state.step:
            note(describe_lengthening(recipe, trainer.state, trainer.state.rate, trainer.next_rate()))
    elif recipe.freeze == "auto" and recipe.head == "solve":
        assert isinstance(network, ResNet)  # checked by the request
        _start_from_fitted_head(prepared, recipe, network, trainer)
    with freed_memory_kept():
        return trainer.run()


def _start_from_fitted_head(prepared: Prepared, recipe: Recipe, network: ResNet, trainer: Trainer) -> None:
    """Fit the head in the first process and give it to the others; its scores are the first to improve on."""
    world, splits = prepared.workspace.world, prepared.splits
    cache = feature_cache(network, prepared.preprocess, recipe, prepared.workspace.device)
    items = Joined(tuple(data.items for data in (splits.train, splits.val) if data is not None))
    compute_together(cache, items, world)
    names = TASK_SCORES.get(splits.train.task, VAL_SCORES)
    train_loss, scores = 0.0, dict.fromkeys(names, 0.0)
    if world.is_main:
        probe = fit_head(cache, recipe, splits, prepared.augment)
        note(describe_probe(probe))
        _set_head(network, probe)
        train_loss = probe.train_loss
        if probe.val_scores:
            scores = {name: probe.val_scores.get(name, math.nan) for name in names}
            if "val_accuracy" in scores:
                note(f"fitted head: validation accuracy {scores['val_accuracy']:.2%}")
            else:
                shown = EpochRecord(epoch=0, step=0, train_loss=train_loss, **probe.val_scores)
                note(f"fitted head:  val loss {scores['val_loss']:.4f}{describe_task_scores(shown)}")
    world.from_main([network.fc.weight.detach(), network.fc.bias.detach()])
    train_loss, *values = world.sum([train_loss, *(scores[name] for name in names)])
    measured = {name: value for name, value in zip(names, values, strict=True) if not math.isnan(value)}
    trainer.begin_at(measured if splits.val is not None else {}, train_loss)


@torch.no_grad()
def _set_head(network: ResNet, probe: LinearProbe) -> None:
    network.fc.weight.copy_(probe.choice.head.weight)
    network.fc.bias.copy_(probe.choice.head.bias)


def _trainer(prepared: Prepared, recipe: Recipe, network: Network, on_epoch: OnEpoch | None, custom: Custom) -> Trainer:
    splits, preprocess, workspace = prepared.splits, prepared.preprocess, prepared.workspace
    batches = _batches(prepared, recipe)

    def make_features(frozen: str | int, epochs: int) -> FeatureBatches | None:
        if workspace.world.size > 1:  # each step waits for the slowest process
            return None
        if custom.augment is not None or not isinstance(network, ResNet):  # cached features are not augmented
            return None
        return make_feature_batches(
            network, preprocess, recipe, prepared.augment, batches, splits.val, frozen, epochs
        )  # fmt: skip

    validate = None
    if splits.val is not None:
        validate = Validation(
            splits.val, preprocess, prepared.preloaded, recipe, workspace.device, workspace.world, splits.target_scale()
        )  # fmt: skip
    return Trainer(
        network=network,
        batches=batches,
        recipe=recipe,
        validate=validate,
        folder=workspace.folder,
        class_counts=list(splits.train.class_counts().values()),
        deadline=None if recipe.time is None else workspace.started + recipe.time,
        afterwards=_time_afterwards(splits, prepared.preloaded.seconds_an_item, novelty=recipe.novelty),
        facts={
            "data": prepared.record.fingerprint("train"),
            "validation data": None if splits.val is None else prepared.record.fingerprint("val"),
            "versions": versions(),
            "threads": recipe.threads,
            "instruction set": torch.backends.cpu.get_cpu_capability(),
        },
        make_feature_batches=make_features,
        on_epoch=on_epoch,
        on_step=custom.on_step,
        loss=custom.loss,
        augment=custom.augment,
        world=workspace.world,
        task=splits.train.task,
    )


def _batches(prepared: Prepared, recipe: Recipe) -> TrainingBatches:
    train, workspace, augment = prepared.splits.train, prepared.workspace, prepared.augment
    world, device = workspace.world, workspace.device
    if recipe.batch_size < world.size:
        raise UserError(
            f"a batch of {recipe.batch_size} cannot be shared by {world.size} processes",
            where="--batch-size",
            fix=f"use {world.size} or more, or fewer processes",
        )
    on_gpu = None
    if device.type == "cuda":
        on_gpu = resident(train.items, prepared.preloaded, prepared.preprocess, augment, device)
    if on_gpu is not None:
        note(f"the training items are kept on the GPU: {on_gpu.samples.nbytes / 2**20:.0f} MiB")
    return TrainingBatches(
        items=train.items,
        classes=len(train.classes),
        preprocess=prepared.preprocess,
        augment=augment,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        balanced=recipe.sampling == "balanced",
        store_size=recipe.store_size,
        preloaded=prepared.preloaded,
        workers=recipe.workers or 0,
        limit=2 if recipe.smoke else None,
        part=world.share,
        mixes=bool(recipe.mixup or recipe.cutmix),
        pins=device.type == "cuda",
        resident=on_gpu,
        target_values=learnt_values(train, prepared.splits.target_scale()),
        teacher=_teacher(prepared, recipe),
    )


def _teacher(prepared: Prepared, recipe: Recipe) -> Teacher | None:
    """Load the recipe's teacher and compute its outputs of the training items' views; None without one."""
    if recipe.teacher.model is None:
        return None
    epochs = recipe.epochs if recipe.time is None else None
    return make_teacher(
        prepared.workspace.teacher.take(recipe), prepared.splits.train, recipe, prepared.augment, epochs
    )


_CLOSING_SECONDS = 5.0
"""For writing the model, reading the report's gallery, loading the plotting library and drawing the report."""


def _time_afterwards(splits: Splits, reading: float, *, novelty: bool) -> Callable[[float], float]:
    """Estimate the seconds for the last validation, the final scores (read from disk again) and the report.

    Args:
        reading: seconds per item.
        novelty: whether some training items are scored, too.
    """
    val, test = len(splits.val or ()), len(splits.test or ())
    again = val + test + (novelty_cost(len(splits.train)) if novelty and val else 0)

    def seconds(seconds_an_item: float) -> float:
        return val * seconds_an_item + again * (seconds_an_item + reading) + _CLOSING_SECONDS

    return seconds
