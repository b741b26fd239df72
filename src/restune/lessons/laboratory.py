"""Train many small networks on the same data by the same recipe: what the lessons' experiments share."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restune.core.console import progress, quiet
from restune.data.dataset import Dataset
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset
from restune.data.threads import computing_threads
from restune.inference.load import pick_device
from restune.networks.resnet import ResNet
from restune.runs.data import grouped, open_held_out
from restune.runs.fit import fit
from restune.runs.initial import build_network, initial_state
from restune.runs.prepare import Prepared, Workspace, prepare, resolve_recipe
from restune.runs.request import Request
from restune.training.linear_probe import feature_cache
from restune.training.metrics_log import EpochRecord
from restune.training.recipe import Recipe
from restune.training.resolve_auto import resolve_auto

SETTINGS: dict[str, Any] = {
    "augment.crop_scale": None,
    "augment.policy": "none",
    "augment.shift": 1,
    "augment.flip": False,
    "label_smoothing": 0.0,
    "checkpoint.every_minutes": 1000.0,
    "precision": "fp32",
    "threads": 1,
}
"""Little augmentation and no smoothing: the training loss is then the plain cross-entropy that the papers plot. One
precision and one thread on every machine: the figures depend on neither, and such small layers are faster so."""


STEADY = {"optimizer.lr": 0.02}
"""A learning rate at which networks of 56 layers train with every seed; at the recipe's own some do not begin to."""


@dataclass(frozen=True)
class Plan:
    """One network to train.

    Args:
        label: what the lesson calls it.
        model: a zoo name.
        spec: overrides of its spec.
        changes: recipe settings by dotted key.
        edit: changes the initial network, for variants that no spec describes.
    """

    label: str
    model: str
    spec: tuple[tuple[str, Any], ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()
    edit: Callable[[ResNet], None] | None = None


@dataclass(frozen=True)
class Trained:
    """A network that was trained.

    Args:
        network: in eval mode, with the weights of the last epoch.
        records: the metrics of each epoch.
    """

    plan: Plan
    seed: int
    network: ResNet
    records: list[EpochRecord]
    seconds: float

    @property
    def train_loss(self) -> float:
        """Mean training loss of the last epoch."""
        return self.records[-1].train_loss

    @property
    def accuracy(self) -> float:
        """Validation accuracy after the last epoch."""
        found = self.records[-1].val_accuracy
        assert found is not None
        return found


class Laboratory:
    """Data that is read and split once, and a recipe by which networks are trained on it.

    Args:
        data: as for `restune.train`.
        epochs: of each training.
        changes: further recipe settings by dotted key.
        device: ``cpu``, ``cuda`` or None for the best there is.
        limit: use at most so many items, drawn by class in the order of the data.
    """

    def __init__(
        self,
        data: Any,
        *,
        epochs: int,
        changes: dict[str, Any] | None = None,
        device: str | None = None,
        limit: int | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="restune-lesson-")
        options = {"model": "resnet8", "image_size": 16, "epochs": epochs, "batch_size": 64, "device": device}
        request = Request("train", None, options, {**SETTINGS, **(changes or {})})
        with quiet():
            dataset = _limited(grouped(open_dataset(data, None), None), limit)
            recipe = request.recipe_for(kind_of(dataset.kind), dataset.form)
            run_data = open_held_out(dataset, recipe, None)
            where = pick_device(recipe.device)
            recipe, _ = resolve_auto(recipe, where, run_data.kind.dims)
            initial = initial_state(recipe, dataset, "train")
            workspace = Workspace(folder=Path(self._folder.name), device=where, started=time.perf_counter())
            with computing_threads(recipe.threads or 1):
                self.prepared: Prepared = prepare(run_data, initial, recipe, workspace)
                self.recipe: Recipe = resolve_recipe(recipe, self.prepared, batch_size_named=False, recipe_named=True)

    def build(self, plan: Plan, seed: int) -> tuple[ResNet, Recipe]:
        """Return a plan's initial network and its recipe."""
        changes = {"model": plan.model, "seed": seed, "compile": "no", **dict(plan.changes)}
        recipe = self.recipe.changed(changes | {f"spec.{key}": value for key, value in plan.spec})
        prepared = self.prepared
        initial = replace(prepared.initial, name=plan.model)
        with quiet():
            network = build_network(initial, recipe, prepared.splits.train.classes, prepared.preprocess)
        assert isinstance(network, ResNet)
        if plan.edit is not None:
            plan.edit(network)
        return network, recipe

    def train(self, plan: Plan, seed: int, *, train: Dataset | None = None, held_out: bool = True) -> Trained:
        """Train a plan's network; on fewer items where `train` names them.

        Args:
            held_out: whether validation items are used: to measure each epoch, and to choose a fitted head.
        """
        network, recipe = self.build(plan, seed)
        prepared = replace(self.prepared, network=network)
        if recipe.fits_head:
            where = prepared.workspace.device
            prepared = replace(prepared, embeddings=feature_cache(network, prepared.preprocess, recipe, where))
        if train is not None:
            prepared = replace(prepared, splits=replace(prepared.splits, train=train))
        if not held_out:
            prepared = replace(prepared, splits=replace(prepared.splits, val=None))
        records: list[EpochRecord] = []
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder, quiet():
            prepared = replace(prepared, workspace=replace(prepared.workspace, folder=Path(folder)))
            with computing_threads(recipe.threads or 1):
                fit(prepared, recipe, records.append)
        return Trained(plan, seed, network.eval(), records, time.perf_counter() - started)

    def train_all(self, plans: Sequence[Plan], seeds: Sequence[int], description: str) -> list[Trained]:
        """Train every plan with every seed, with a progress bar."""
        with progress(description, len(plans) * len(seeds), unit="trainings") as advance:
            trained = []
            for plan in plans:
                for seed in seeds:
                    trained.append(self.train(plan, seed))
                    advance(1)
        return trained

    def training_batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first `count` training items as the network sees them, without augmentation, and their targets."""
        return self._batch(self.prepared.splits.train, count)

    def validation_batch(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Return validation items as the network sees them, and their targets."""
        held_out = self.prepared.splits.val
        assert held_out is not None
        return self._batch(held_out, count or len(held_out))

    def _batch(self, dataset: Dataset, count: int) -> tuple[Tensor, Tensor]:
        prepared = self.prepared
        items = dataset.items[:count]
        samples = [prepared.preprocess.apply(item.location.read()) for item in items]
        x, mask = prepared.preprocess.inputs(prepared.preprocess.stack(samples))
        assert mask is None, "lessons take items of one shape"
        return x, torch.tensor([item.target for item in items])


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    """Return at most `limit` items, the same number of each class, in the order of the data."""
    if limit is None or len(dataset) <= limit:
        return dataset
    each, taken, kept = max(1, limit // len(dataset.classes)), [0] * len(dataset.classes), []
    for item in dataset.items:
        if taken[item.target] < each:
            taken[item.target] += 1
            kept.append(item)
    return replace(dataset, items=tuple(kept))
