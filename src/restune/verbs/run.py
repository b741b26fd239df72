"""What train and finetune share: recipe, data, splits, training, scores, and the run's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from restune.core.allocator import freed_memory_kept
from restune.core.console import command_started, note, warn
from restune.core.errors import UserError, shorten
from restune.core.files import write_text
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.dataset import DataOptions, Dataset, Item
from restune.data.preprocess import ImagePreprocess
from restune.data.sources import open_dataset
from restune.data.splits import Splits, read_splits, split_dataset, write_splits
from restune.data.survey import Survey, survey
from restune.inference.features import FeatureCache
from restune.inference.model import Model
from restune.networks.resnet import ResNet
from restune.training.cached import CachedBatches, cached_batches
from restune.training.decide import decide
from restune.training.headfit import (
    Probe,
    describe_probe,
    feature_cache,
    fit_head,
    head_facts,
    reject_what_has_no_optimum,
    say_views,
)
from restune.training.loop import Finished, Trainer
from restune.training.recipe import Recipe
from restune.training.validation import Validation
from restune.verbs.finishing import Setting, finish, versions
from restune.verbs.load import load, pick_device
from restune.verbs.settings import run_folder, stored_recipe
from restune.verbs.starting import settled_augment, starting_network


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        out: its folder.
        result: what result.json says.
    """

    out: Path
    result: dict[str, Any] = field(repr=False)

    @property
    def model(self) -> Model:
        """The best model, loaded."""
        return load(self.out)


def perform(
    verb: str,
    data: str | Path | Dataset,
    recipe: Recipe,
    out: str | Path | None,
    data_options: DataOptions | None,
    *,
    resume: bool = False,
    accept_changes: bool = False,
) -> Run:
    """One run from beginning to end. Raises UserError."""
    started = command_started.get() or time.perf_counter()
    folder, continues = run_folder(verb, out, resume=resume)
    if continues and (folder / "result.json").exists():
        note(f"{folder} is finished; nothing to do")
        return Run(folder, json.loads((folder / "result.json").read_text()))
    dataset, val, test = _open(data, recipe, data_options)
    if continues:
        recipe = stored_recipe(folder, recipe, accept_changes=accept_changes)
    device = pick_device(recipe.device)
    recipe, decisions = decide(recipe, device)
    for decision in decisions:
        note(f"{decision.key}: {decision.value} ({decision.reason})")
    torch.set_num_threads(recipe.threads or 1)
    name, network, preprocess, origin = starting_network(recipe, dataset, verb)
    recipe = recipe.changed({"model": name, "preprocess": preprocess.to_dict(), "image_size": preprocess.crop})
    augment = settled_augment(recipe, dataset)
    is_solved = recipe.freeze == "all" and recipe.head == "solve"
    if is_solved:
        reject_what_has_no_optimum(recipe)
        cache = feature_cache(network, preprocess, recipe, device)
        looked = Survey(unreadable=cache.of(_all_items(dataset, val, test)).failures)
    else:
        looked = _look(recipe, dataset, val, test, preprocess, augment)
    _say_unreadable(looked)
    splits = _split(folder, recipe, dataset, val, test, looked, continues=continues)
    write_text(folder / "recipe.yaml", _header(verb, data) + recipe.to_yaml())
    setting = Setting(
        verb=verb, folder=folder, recipe=recipe, splits=splits, preprocess=preprocess, network=network,
        origin=origin, started=started,
    )  # fmt: skip
    if is_solved:
        return Run(folder, _solved(setting, cache, augment))
    trainer = _trainer(setting, _placed(network, recipe, device), augment, looked)
    if continues and trainer.resume(accept_changes=accept_changes):
        note(f"resumed from step {trainer.resumed_from_step}")
    elif recipe.freeze == "auto" and recipe.head == "solve":
        probe = fit_head(feature_cache(network, preprocess, recipe, device), recipe, splits, augment)
        _begin_with(probe, trainer)
    with freed_memory_kept():
        finished = trainer.run()
    return Run(folder, finish(setting, finished))


def _solved(setting: Setting, cache: FeatureCache, augment: Augment) -> dict[str, Any]:
    """The whole run of a head on a frozen network: one convex problem, and its scores."""
    probe = fit_head(cache, setting.recipe, setting.splits, augment)
    note(describe_probe(probe))
    say_views(probe, augment)
    _put_head(setting.network, probe)
    val = probe.scores.get("val")
    record: dict[str, Any] = {"epoch": 1, "step": probe.choice.head.iterations, "train_loss": probe.train_loss}
    if val is not None:
        record |= {"val_loss": probe.val_loss, "val_accuracy": val.accuracy}
    write_text(setting.folder / "metrics.jsonl", json.dumps(record | {"lr": 0.0}) + "\n")
    seconds = time.perf_counter() - setting.started
    finished = Finished(
        state_dict=setting.network.state_dict(),
        best_epoch=1,
        epochs=1,
        steps=probe.choice.head.iterations,
        images=probe.views * len(setting.splits.train),
        seconds=seconds,
        resumed_from_step=None,
        more={"head": head_facts(probe)},
    )
    timing = {"epoch": 1, "seconds": round(seconds, 3), "features_computed": probe.computed}
    write_text(setting.folder / "timings.jsonl", json.dumps(timing | {"features_reused": probe.reused}) + "\n")
    return finish(setting, finished, probe.scores)


def _begin_with(probe: Probe, trainer: Trainer) -> None:
    """Let thawing start from a solved head, and from its scores as what is to be beaten."""
    note(describe_probe(probe))
    _put_head(trainer.network, probe)
    scores: dict[str, float] = {}
    if "val" in probe.scores and probe.val_loss is not None:
        scores = {"val_loss": probe.val_loss, "val_accuracy": probe.scores["val"].accuracy}
        note(f"the solved head reaches {scores['val_accuracy']:.2%} on the validation items")
    trainer.begin_at(scores, probe.train_loss)


@torch.no_grad()
def _put_head(network: ResNet, probe: Probe) -> None:
    network.fc.weight.copy_(probe.choice.head.weight)
    network.fc.bias.copy_(probe.choice.head.bias)


def _placed(network: ResNet, recipe: Recipe, device: torch.device) -> ResNet:
    """The network on its device, in the memory format and compiled as the recipe says."""
    network = network.to(device)
    if recipe.memory_format == "channels-last":
        network = network.to(memory_format=torch.channels_last)
    if recipe.compile == "yes":
        network.compile()  # in place: the names of its tensors stay as they are
    return network


def _trainer(setting: Setting, network: ResNet, augment: Augment, looked: Survey) -> Trainer:
    recipe, splits, preprocess = setting.recipe, setting.splits, setting.preprocess
    batches = TrainingBatches(
        items=splits.train.items,
        classes=len(splits.train.classes),
        preprocess=preprocess,
        augment=augment,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        balanced=recipe.sampling == "balanced",
        store_size=recipe.store_size,
        survey=looked,
        workers=recipe.workers or 0,
        limit=2 if recipe.smoke else None,
    )
    device = network.fc.weight.device

    def make_cached(frozen: str | int, epochs: int) -> CachedBatches | None:
        return cached_batches(network, preprocess, recipe, augment, batches, splits.val, frozen, epochs)

    return Trainer(
        network=network,
        batches=batches,
        recipe=recipe,
        validate=None if splits.val is None else Validation(splits.val, preprocess, looked, recipe, device),
        folder=setting.folder,
        class_counts=list(splits.train.class_counts().values()),
        deadline=None if recipe.time is None else setting.started + recipe.time,
        afterwards=_time_afterwards(splits, looked),
        facts={"data": splits.train.fingerprint(), "versions": versions(), "threads": recipe.threads},
        make_cached=make_cached,
    )


_CLOSING_SECONDS = 4.0
"""For writing the model, loading the plotting library and drawing the report."""


def _time_afterwards(splits: Splits, looked: Survey) -> Callable[[float], float]:
    """How long the last validation, the final scores (read from disk again) and the report will take."""
    val, test = len(splits.val or ()), len(splits.test or ())

    def seconds(seconds_an_item: float) -> float:
        return val * seconds_an_item + (val + test) * (seconds_an_item + looked.seconds_an_item) + _CLOSING_SECONDS

    return seconds


def _open(
    data: str | Path | Dataset, recipe: Recipe, options: DataOptions | None
) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """The data, and the validation and test data where they are other data."""
    dataset = open_dataset(data, options)
    sides: list[Dataset | None] = []
    for name in ("val", "test"):
        value = getattr(recipe, name)
        if not isinstance(value, str):
            sides.append(None)
            continue
        other = open_dataset(value, options)
        try:
            sides.append(_renamed(other.with_classes(dataset.classes), name))
        except UserError as error:
            raise UserError(
                error.what.replace("the model", "the training data").replace("the data has", f"the {name} data has"),
                where=other.source,
                fix=f"training and {name} data need the same class names",
            ) from None
    return dataset, sides[0], sides[1]


def _renamed(dataset: Dataset, side: str) -> Dataset:
    """Items of another source under ids that cannot be taken for the training data's."""
    return replace(dataset, items=tuple(replace(item, id=f"{side}:{item.id}", split=side) for item in dataset.items))


def _look(
    recipe: Recipe,
    dataset: Dataset,
    val: Dataset | None,
    test: Dataset | None,
    preprocess: ImagePreprocess,
    augment: Augment,
) -> Survey:
    """Decode everything that will be trained and validated on once; keep it in memory where it fits."""
    found = survey(
        _all_items(dataset, val, test),
        preprocess,
        store_size=recipe.store_size,
        crop_once=augment.crop_scale is None,
        workers=recipe.workers or None,
    )
    note("all images are kept in memory" if found.pixels else "images are read from disk as they are needed")
    return found


def _all_items(dataset: Dataset, val: Dataset | None, test: Dataset | None) -> list[Item]:
    return [*dataset.items, *(val.items if val else ()), *(test.items if test else ())]


def _say_unreadable(looked: Survey) -> None:
    if looked.unreadable:
        names = shorten(f"{name} ({reason})" for name, reason in list(looked.unreadable.items())[:3])
        warn(f"{len(looked.unreadable)} items cannot be read and are left out: {names}; all are in split.csv")


def _split(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    val: Dataset | None,
    test: Dataset | None,
    looked: Survey,
    *,
    continues: bool,
) -> Splits:
    """The splits of the run: those on disk when it goes on, else drawn now and written."""
    path = folder / "split.csv"
    if continues and path.exists():
        return read_splits(path, dataset, val, test)
    splits = split_dataset(
        dataset,
        val=val if val is not None else _share(recipe.val),
        test=test if test is not None else _share(recipe.test),
        unreadable=looked.unreadable,
        seed=recipe.seed,
        min_class_items=recipe.min_class_items,
    )
    lacking = [] if splits.val is None else [name for name, count in splits.val.class_counts().items() if not count]
    if lacking:
        raise UserError(
            f"the validation items have none of {shorten(map(repr, lacking))}",
            where=splits.val.source if splits.val else "--val",
            fix="add some, or let restune draw them: --val 0.2",
        )
    write_splits(path, splits)
    counts = ", ".join(f"{name} {count}" for name, count in splits.counts().items())
    note(
        f"{len(dataset.classes)} classes; {counts}" + (f"; left out {len(splits.left_out)}" if splits.left_out else "")
    )
    return splits


def _share(value: float | str | None) -> float | None:
    return value if not isinstance(value, str) else None


def _header(verb: str, data: str | Path | Dataset) -> str:
    name = data.source if isinstance(data, Dataset) else data
    return f"# restune {verb} {name} --recipe THIS_FILE repeats the run\n"
