"""Prepare a run for fitting, from its data and initial weights: splits, input, network, and resolved recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restune.core.console import note, quiet
from restune.core.errors import UserError
from restune.data.augment import Augment
from restune.data.augment_series import default_window
from restune.data.dataset import Item
from restune.data.preload import Preloaded
from restune.data.preprocess import Preprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.text_draft import TextDraft
from restune.data.splits import Splits
from restune.inference.features import FeatureCache
from restune.networks.custom import Network
from restune.networks.layout import weights_layout
from restune.networks.resnet import ResNet
from restune.runs.data import RunData, note_memory, preload_all, reject_mixup_of_lengths
from restune.runs.exchange import merged_counts, own_share, share_findings, share_samples
from restune.runs.initial import Initial, build_network, preprocess_settings, resolve_augment
from restune.runs.input_size import choose_input_size
from restune.runs.split_record import SplitRecord
from restune.runs.splitting import split_data
from restune.training.distributed import World
from restune.training.image_sizes import check_image_sizes
from restune.training.linear_probe import feature_cache, reject_settings_without_optimum
from restune.training.memory import fitting_items
from restune.training.progress import whole_epochs
from restune.training.recipe import Recipe
from restune.training.resolve_auto import Decision, resolve_batch_size, resolve_compile, resolve_norm_batches


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Folder, device and processes of a run.

    Args:
        folder: the run's folder.
        device: the compute device.
        world: the processes that train together.
        continues: whether the folder contains a run to resume.
        accept_changes: resume even though data or versions changed.
        started: `time.perf_counter()` when the command began.
    """

    folder: Path
    device: torch.device
    world: World = World()  # noqa: RUF009  # a frozen value
    continues: bool = False
    accept_changes: bool = False
    started: float


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The inputs of `fit` besides the recipe. Splits, preloaded items and feature cache may be shared by several fits.

    Args:
        workspace: folder, device and processes.
        initial: the weights that the network starts from.
        splits: the items of each split.
        record: their ids, sizes and content hashes when they were split.
        preprocess: the network's input.
        augment: augmentation of the training items.
        preloaded: items in memory.
        network: with its initial weights; `fit` changes it.
        embeddings: every item's embedding, if the head is fitted by logistic regression.
    """

    workspace: Workspace
    initial: Initial
    splits: Splits
    record: SplitRecord
    preprocess: Preprocess
    augment: Augment
    preloaded: Preloaded
    network: Network
    embeddings: FeatureCache | None = None


def prepare(data: RunData, initial: Initial, recipe: Recipe, workspace: Workspace) -> Prepared:
    """Read every item once, split them, fit the preprocessing to the training items and build the network."""
    augment = resolve_augment(recipe, data.train)
    if recipe.fits_head:
        return _prepare_head(data, initial, recipe, workspace, augment)
    world, draft = workspace.world, initial.preprocess.draft()
    mine = own_share(data, world)
    preloaded = preload_all(data, recipe, initial.preprocess, augment, draft=draft, mine=mine)
    share_findings(preloaded, initial.preprocess.apply, mine, world)
    splits, record = _split(data, preloaded, recipe, workspace)
    seen = initial.preprocess
    initial = choose_input_size(initial, recipe, splits.train, workspace.device, world)
    preprocess = _fitted(initial, draft, preloaded, splits.train.items, None if mine is None else world)
    if draft is not None and preloaded.kept:
        assert isinstance(preprocess, TextPreprocess)
        preloaded.kept = draft.finished(preloaded.kept, preprocess)
    elif preprocess != seen and preloaded.as_seen:  # wholes do not depend on what was fitted
        with quiet():
            preloaded = preload_all(data, recipe, preprocess, augment, mine=mine)
            share_findings(preloaded, preprocess.apply, mine, world)
    share_samples(preloaded, mine, world)
    note_memory(data, preloaded)
    network = build_network(initial, recipe, splits.train.classes, preprocess, data.train.task)
    if recipe.augment.window is None and "window" in data.kind.augment_fields:
        augment = replace(augment, window=default_window(splits.train.items, preprocess))
    return Prepared(
        workspace=workspace, initial=initial, splits=splits, record=record, preprocess=preprocess, augment=augment,
        preloaded=preloaded, network=network,
    )  # fmt: skip


def renewed(prepared: Prepared, data: RunData, recipe: Recipe, workspace: Workspace) -> Prepared:
    """Return the same prepared data for another fit: a new network with its initial weights, and its augmentation.

    Args:
        data: that was prepared.
        recipe: differs from that of `prepare` in nothing that reading the items depends on.
    """
    augment = resolve_augment(recipe, data.train)
    if recipe.augment.window is None and "window" in data.kind.augment_fields:
        augment = replace(augment, window=default_window(prepared.splits.train.items, prepared.preprocess))
    classes, task = prepared.splits.train.classes, data.train.task
    network = build_network(prepared.initial, recipe, classes, prepared.preprocess, task)
    return replace(prepared, network=network, augment=augment, workspace=workspace)


def _fitted(
    initial: Initial, draft: TextDraft | None, preloaded: Preloaded, train: Sequence[Item], divided: World | None
) -> Preprocess:
    """Fit the preprocessing to the training items.

    Args:
        divided: the processes that have read a share of the items each; None: this one has read all.
    """
    if draft is None:
        return initial.preprocess.fit(train, initial.settings)
    if divided is None:
        return draft.fit(preloaded.kept, train, initial.settings)
    mine = divided.share(range(len(train)))
    counted = train if preloaded.kept else train[mine.start : mine.stop]
    return draft.fit(preloaded.kept, counted, initial.settings, lambda counts: merged_counts(counts, divided))


def resolve_recipe(recipe: Recipe, prepared: Prepared, *, batch_size_named: bool, recipe_named: bool = False) -> Recipe:
    """Resolve the recipe's settings that depend on network, items, memory and measurements.

    Args:
        batch_size_named: whether the batch size was requested; if not, it is lowered for few items.
        recipe_named: whether the recipe was; a batch size in it is then lowered only where there are fewer items.
    """
    preprocess, train, workspace = prepared.preprocess, prepared.splits.train, prepared.workspace
    settled: dict[str, Any] = {"model": prepared.initial.name, "preprocess": preprocess_settings(preprocess)}
    if preprocess.image_size is not None:
        settled["image_size"] = preprocess.image_size
    recipe = recipe.changed(settled)
    if recipe.fits_head:
        return recipe
    check_image_sizes(recipe, prepared.network, preprocess.image_size)
    reject_mixup_of_lengths(recipe, prepared.preloaded, preprocess, train)
    from_scratch = prepared.initial.weights is None
    if not (batch_size_named or workspace.continues):
        for_steps = from_scratch and not recipe_named
        recipe = _announced(recipe, resolve_batch_size(recipe, len(train), for_steps=for_steps))
    recipe = recipe.changed({"epochs": whole_epochs(recipe, len(train) // recipe.batch_size)})
    if workspace.continues:
        return recipe
    sample = prepared.preloaded.largest(preprocess, train.items[0])
    recipe = _resolve_micro_batch(recipe, prepared, sample)
    shape = (recipe.batch_size, *sample.shape)
    recipe, decision = resolve_compile(recipe, prepared.network.spec, shape, workspace.device)
    if decision is not None:
        note(f"{decision.key}: {decision.value} ({decision.reason})")
    return _announced(recipe, resolve_norm_batches(recipe, len(train), from_scratch=from_scratch))


def place_network(network: Network, recipe: Recipe, device: torch.device) -> Network:
    """Move the network to its device and memory format, synchronise its norms and compile it, as the recipe says."""
    if recipe.sync_batch_norm:
        _reject_sync(network, device)
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    network = network.to(device)
    if recipe.memory_format == "channels-last":
        network = network.to(memory_format=weights_layout(network.spec.dims))
    if recipe.compile == "yes":
        # In place: the names of its tensors stay as they are. Images of several sizes get a graph for each.
        network.compile(dynamic=False if recipe.image_sizes else None)
    return network


def compute_together(cache: FeatureCache, items: Sequence[Item], world: World) -> None:
    """Compute the features of this process's part of the items, and wait until those of all items are on disk."""
    if world.size > 1 and cache.on_disk:
        mine = world.share(range(len(items)))
        cache.of(items[mine.start : mine.stop])
        world.wait()


def _announced(recipe: Recipe, decision: Decision | None) -> Recipe:
    """Return the recipe with the decision in it, and print it with its reason; None changes nothing."""
    if decision is None:
        return recipe
    note(f"{decision.key}: {decision.value} ({decision.reason})")
    return recipe.changed({decision.key: decision.value})


def _prepare_head(
    data: RunData, initial: Initial, recipe: Recipe, workspace: Workspace, augment: Augment
) -> Prepared:  # fmt: skip
    """Prepare to fit the head: compute every item's embedding once, which also finds unreadable items."""
    reject_settings_without_optimum(recipe, data.train.task)
    preprocess = initial.preprocess
    network = build_network(initial, recipe, data.train.classes, preprocess, data.train.task)
    assert isinstance(network, ResNet)  # checked by the request
    cache = feature_cache(network, preprocess, recipe, workspace.device)
    compute_together(cache, data.items(), workspace.world)
    preloaded = Preloaded(data.items())
    preloaded.unreadable, preloaded.contents = cache.of(data.items()).failures, cache.contents()
    splits, record = _split(data, preloaded, recipe, workspace)
    resized = choose_input_size(initial, recipe, splits.train, workspace.device, workspace.world)
    if resized is not initial:
        initial, preprocess = resized, resized.preprocess
        cache = feature_cache(network, preprocess, recipe, workspace.device)
        compute_together(cache, data.items(), workspace.world)
    return Prepared(
        workspace=workspace, initial=initial, splits=splits, record=record, preprocess=preprocess, augment=augment,
        preloaded=preloaded, network=network, embeddings=cache,
    )  # fmt: skip


def _split(data: RunData, preloaded: Preloaded, recipe: Recipe, workspace: Workspace) -> tuple[Splits, SplitRecord]:
    return split_data(
        data, preloaded.unreadable, preloaded.contents, recipe, workspace.folder, workspace.world,
        continues=workspace.continues, accept_changes=workspace.accept_changes,
    )  # fmt: skip


def _resolve_micro_batch(recipe: Recipe, prepared: Prepared, sample: Tensor) -> Recipe:
    """Set a micro-batch if a whole batch does not fit in memory."""
    if recipe.micro_batch is not None:
        return recipe
    part = -(-recipe.batch_size // prepared.workspace.world.size)
    frozen = "none" if recipe.freeze == "auto" else recipe.freeze
    network = prepared.network.to(prepared.workspace.device)
    items, each = fitting_items(
        network, prepared.preprocess, sample, bf16=recipe.precision == "bf16", freeze=frozen
    )  # fmt: skip
    if items >= part:
        return recipe
    note(
        f"micro_batch: {items} (the backward pass of {part} items needs {part * each / 2**30:.1f} GiB, more than "
        "there is memory for; each batch norm sees one micro-batch at a time)"
    )
    return recipe.changed({"micro_batch": items})


def _reject_sync(network: Network, device: torch.device) -> None:
    fix = "leave it out: statistics of several processes are averaged after each step in any case"
    if device.type != "cuda":
        raise UserError("torch synchronises batch norms on GPUs only", where="--set sync_batch_norm", fix=fix)
    if network.spec.dims == 1:
        raise UserError(
            "torch cannot synchronise batch norms that leave out padding", where="--set sync_batch_norm", fix=fix
        )
