"""Trials of a study: they share splits, decoded items and the feature cache, and none of them reads a test item."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restune.core.console import quiet
from restune.core.errors import UserError
from restune.data.dataset import DataOptions, Dataset
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset
from restune.data.splits import Splits
from restune.inference.load import pick_device
from restune.runs.data import RunData, grouped, open_held_out
from restune.runs.fit import fit
from restune.runs.initial import initial_state
from restune.runs.network_choice import choose_network
from restune.runs.prepare import Prepared, Workspace, prepare, renewed, resolve_recipe
from restune.runs.request import Request
from restune.runs.task_settings import settle_task
from restune.training.distributed import World
from restune.training.metrics_log import EpochRecord
from restune.training.recipe import Recipe
from restune.training.resolve_auto import resolve_auto
from restune.training.selection import higher_is_better, improves
from restune.tuning.held_out import folds_of_data, held_out_hits, set_aside

Report = Callable[[float, int], None]
"""Called with the best score so far and the epoch, from 1; raises to stop the trial."""
_KEPT = 3
"""Prepared data that is kept in memory: trials with other images or other weights need their own."""
_DECIDE = ("weights", "model", "spec", "image_size", "store_size", "preprocess", "text", "signal", "video", "precision",
           "cache", "freeze", "head")  # fmt: skip
"""Settings by which prepared data differs."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a fit gave.

    Args:
        score: the best of the monitored metric.
        epochs: trained.
        seconds: of the fit.
        hits: of each held-out item, the number of folds whose network predicts it correctly; None without any.
    """

    score: float
    epochs: int
    seconds: float
    hits: tuple[int, ...] | None = None


@dataclass
class Trials:
    """Fits of one data set with different settings.

    Args:
        request: of the training verb, with the settings that all trials share.
        recipe: the request's, resolved for the data.
        data: training and validation items, apart.
        splits: all splits; the test items are only counted.
        side: of the network's input, pixels; None where it is not an image.
        options: how the data is read.
        folds: training and validation items of each fit of a trial; one, or the folds of a cross-validation.
        held_out: validation items that choose nothing: only the comparison with the recipe's own settings reads them.
    """

    request: Request
    recipe: Recipe
    data: RunData
    splits: Splits
    side: int | None
    options: DataOptions | None
    folder: Path
    folds: tuple[RunData, ...]
    held_out: Dataset | None = None
    prepared: OrderedDict[str, tuple[Prepared, Recipe]] = field(default_factory=OrderedDict)

    @property
    def monitor(self) -> str:
        """The metric that trials are compared by."""
        return self.recipe.monitor

    @property
    def direction(self) -> str:
        """``maximize`` or ``minimize``."""
        return "maximize" if higher_is_better(self.monitor) else "minimize"

    def fit(self, settings: Mapping[str, Any], report: Report) -> Trial:
        """Fit with some settings changed and return the best validation score, of folds their mean.

        Args:
            settings: changes to the recipe.
            report: of a single fit called after each epoch, of folds after each fold with the mean so far.

        Raises UserError.
        """
        started = time.perf_counter()
        recipe = self.recipe.changed(settings)
        if recipe.fits_head:  # settings of steps have no effect on a fitted head
            recipe = recipe.changed({"augment.policy": "none"} if "augment.policy" in settings else {})
        scores: list[float] = []
        hits: list[NDArray[np.int64]] = []
        epochs = 0
        for fold in range(len(self.folds)):
            score, trained, right = self._fit_once(fold, recipe, report if len(self.folds) == 1 else _unreported)
            scores.append(score)
            epochs += trained
            if right is not None:
                hits.append(right)
            if len(self.folds) > 1:
                report(statistics.fmean(scores), len(scores))
        return Trial(
            score=statistics.fmean(scores),
            epochs=epochs,
            seconds=time.perf_counter() - started,
            hits=tuple(np.sum(hits, axis=0).tolist()) if hits else None,
        )

    def _fit_once(self, fold: int, recipe: Recipe, report: Report) -> tuple[float, int, NDArray[np.int64] | None]:
        """Fit on one fold. Return the best score, the number of epochs, and the hits on the held-out items."""
        best: list[float] = []
        epochs = 0

        def on_epoch(record: EpochRecord) -> None:
            nonlocal epochs
            epochs = record.epoch
            score = record.score(self.monitor)
            if score is not None and improves(score, best[-1] if best else None, monitor=self.monitor):
                best.append(score)
            if best:
                report(best[-1], record.epoch)

        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=self.folder))
        try:
            with quiet():
                prepared, resolved = self._prepared(fold, recipe, folder)
                fitted = fit(prepared, resolved, on_epoch)
                right = None if self.held_out is None else held_out_hits(prepared, fitted, self.held_out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not best:
            raise UserError("no epoch of this trial has a finite validation score", where=self.monitor)
        return best[-1], epochs, right

    def _prepared(self, fold: int, recipe: Recipe, folder: Path) -> tuple[Prepared, Recipe]:
        """Return prepared data with a new network, and the recipe resolved for it."""
        key, data = f"{fold} {self._key(recipe)}", self.folds[fold]
        workspace = Workspace(folder=folder, device=pick_device(recipe.device), started=time.perf_counter())
        if key not in self.prepared:
            encoding = None if self.options is None else self.options.encoding
            initial = initial_state(recipe, data.train, self.request.verb, encoding)
            self.prepared[key] = prepare(data, initial, recipe, workspace), recipe
            while len(self.prepared) > _KEPT * len(self.folds):
                self.prepared.popitem(last=False)
        self.prepared.move_to_end(key)
        prepared = renewed(self.prepared[key][0], data, recipe, workspace)
        named = self.request.has("batch_size")
        return prepared, resolve_recipe(
            recipe, prepared, batch_size_named=named, recipe_named=self.request.recipe is not None
        )

    def _key(self, recipe: Recipe) -> str:
        content = recipe.model_dump(mode="json")
        shown = {key: content[key] for key in _DECIDE}
        shown["freeze"] = recipe.fits_head  # of freezing only this decides how data is prepared
        shown["needs_wholes"] = content["augment"] if not recipe.fits_head else None
        return json.dumps(shown, sort_keys=True)


def open_trials(
    data: Any,
    request: Request,
    options: DataOptions | None,
    folder: Path,
    opened: Callable[[Any, DataOptions | None], Dataset] = open_dataset,
    folds: int = 1,
    share: float | None = None,
) -> Trials:
    """Open the data, draw the splits of a run with these settings, and set its test items aside.

    Args:
        folds: of a cross-validation over training and validation items; 1: the run's own validation items score.
        share: of the validation items that choose nothing; None: half where there are enough.

    Raises UserError for data without validation items.
    """
    train = opened(data, options)
    recipe = request.recipe_for(kind_of(train.kind), train.form)
    recipe = settle_task(recipe, train.task, request.has)
    everything, train = train, grouped(train, options)
    run_data = open_held_out(train, recipe, options)
    recipe, _ = resolve_auto(recipe, pick_device(recipe.device), run_data.kind.dims)
    if request.verb == "train":
        recipe, _ = choose_network(recipe, everything, World())
    encoding = None if options is None else options.encoding
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="splits-", dir=folder) as name:
        workspace = Workspace(folder=Path(name), device=pick_device(recipe.device), started=started)
        with torch.random.fork_rng(devices=[]):
            initial = initial_state(recipe, train, request.verb, encoding)
            # of a fitted head, trials compare image sizes themselves, from the weights' own on
            size = {"image_size": initial.preprocess.image_size} if recipe.fits_head else {}
            prepared = prepare(run_data, initial, recipe.changed(size), workspace)
    splits = prepared.splits
    if splits.val is None:
        raise UserError(
            "a search chooses by validation items, and there are none", where="--val", fix="hold some out: --val 0.2"
        )
    val, held_out = set_aside(splits.val, share, recipe.seed)
    own = RunData(train=splits.train, val=val)
    return Trials(
        request=request,
        recipe=recipe.changed({"test": None}),
        data=own,
        folds=(own,) if folds == 1 else _folds(own, run_data, folds, recipe.seed),
        held_out=held_out,
        splits=splits,
        side=prepared.preprocess.image_size,
        options=options,
        folder=folder,
    )


def _unreported(score: float, epoch: int) -> None:
    """Report nothing: of folds, the mean over whole fits is reported."""


def _folds(own: RunData, data: RunData, count: int, seed: int) -> tuple[RunData, ...]:
    """Divide training and validation items into folds, by class and by group; each is the validation data once."""
    if data.val is not None:
        raise UserError(
            "folds are drawn from the training data, and other data is named for validation", where="--folds",
            fix="leave out --val or --folds",
        )  # fmt: skip
    assert own.val is not None
    items = (replace(item, split=None) for part in (own.train, own.val) for item in part.items)
    pool = replace(own.train, items=tuple(items))
    fold_of = folds_of_data(pool, seed, count)
    return tuple(
        RunData(train=pool.take(np.flatnonzero(fold_of != fold)), val=pool.take(np.flatnonzero(fold_of == fold)))
        for fold in range(count)
    )
