"""What train and finetune share: recipe, data, splits, training, scores, and the run's folder."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from restune.core.allocator import freed_memory_kept
from restune.core.console import command_started, note, quiet, silent
from restune.core.errors import UserError
from restune.core.files import sole_user, user_path, write_text
from restune.core.interrupt import Interrupted, Terminated
from restune.data.augment import Augment
from restune.data.batches import TrainingBatches
from restune.data.dataset import DataOptions, Dataset, Item
from restune.data.preprocess import ImagePreprocess, Preprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.data.resident import resident
from restune.data.sources import open_dataset
from restune.data.sources.sentences import group_duplicates
from restune.data.splits import Splits
from restune.data.preload import Preloaded
from restune.inference.features import FeatureCache
from restune.inference.model import Model
from restune.networks.layout import weights_layout
from restune.networks.resnet import ResNet
from restune.training.feature_batches import FeatureBatches, make_feature_batches
from restune.training.resolve_auto import resolve_auto, resolve_compile
from restune.training.distributed import World, is_lost_peer, join_world, leave_world
from restune.training.linear_probe import (
    Probe,
    describe_probe,
    feature_cache,
    fit_head,
    head_facts,
    reject_what_has_no_optimum,
    say_views,
)
from restune.training.loop import Fitted, Trainer
from restune.training.memory import fitting_items
from restune.training.progress import whole_epochs
from restune.training.recipe import Recipe
from restune.training.validation import Validation
from restune.runs.results import Setting, finish, versions
from restune.runs.preprocessing import fitted, has_sounds, settled_settings
from restune.verbs.load import load, pick_device
from restune.runs.request import Request, run_folder, stored_recipe
from restune.runs.data import (
    all_items,
    preload_all,
    open_others,
    reject_mixing_of_lengths,
    report_unreadable,
    settle_splits,
)
from restune.runs.initial import Start, settled_augment, starting_network, starting_point, with_window


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
    data: str | Path | Dataset,
    asked: Request,
    out: str | Path | None,
    data_options: DataOptions | None,
    *,
    resume: bool = False,
    accept_changes: bool = False,
) -> Run:
    """One run from beginning to end. Raises UserError."""
    world, verb = join_world(asked.device), asked.verb
    try:
        with silent(not world.is_main):
            folder = user_path(out) if out is not None else None
            try:
                folder, continues = _agreed_folder(verb, out, world, resume=resume)
                with sole_user(folder) if world.is_main else nullcontext():
                    return _perform(data, asked, data_options, folder, world, continues, accept_changes)
            except (KeyboardInterrupt, Terminated) as error:
                if isinstance(error, Interrupted) or folder is None:
                    raise
                number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
                raise Interrupted(number, folder) from None
            except RuntimeError as error:
                if is_lost_peer(error):
                    raise UserError(
                        f"another process of this run is gone: {str(error).splitlines()[0][:200]}",
                        where=str(out),
                        fix="start all of them again with --resume: the run goes on from its last checkpoint",
                    ) from error
                raise
    finally:
        leave_world(world)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run whose data is open and whose settings are known as far as they do not depend on which items train."""

    verb: str
    folder: Path
    recipe: Recipe
    dataset: Dataset
    val: Dataset | None
    test: Dataset | None
    start: Start
    augment: Augment
    device: torch.device
    world: World
    continues: bool
    asked_batch: bool
    header: str
    started: float

    def items(self) -> list[Item]:
        """All that will be preloaded at."""
        return all_items(self.dataset, self.val, self.test)

    def look(self, preprocess: Preprocess) -> Preloaded:
        """Every item, read once."""
        return preload_all(self.recipe, self.dataset, self.val, self.test, preprocess, self.augment)

    def split(self, preloaded: Preloaded) -> Splits:
        """The sides, without what cannot be read."""
        report_unreadable(preloaded)
        return settle_splits(
            self.folder, self.recipe, self.dataset, self.val, self.test, preloaded,
            continues=self.continues, writes=self.world.is_main,
        )  # fmt: skip

    def setting(self, recipe: Recipe, splits: Splits, preprocess: Preprocess, network: ResNet) -> Setting:
        """The run as it is from now on; its settings are written."""
        if self.world.is_main:
            write_text(self.folder / "recipe.yaml", self.header + recipe.to_yaml())
        return Setting(
            verb=self.verb, folder=self.folder, recipe=recipe, splits=splits, preprocess=preprocess, network=network,
            origin=self.start.origin, started=self.started,
        )  # fmt: skip


def _perform(
    data: str | Path | Dataset,
    asked: Request,
    data_options: DataOptions | None,
    folder: Path,
    world: World,
    continues: bool,
    accept_changes: bool,
) -> Run:
    started = command_started.get() or time.perf_counter()
    if continues and (folder / "result.json").exists():
        note(f"{folder} is finished; nothing to do")
        return Run(folder, json.loads((folder / "result.json").read_text()))
    encoding = None if data_options is None else data_options.encoding
    dataset = open_dataset(data, data_options)
    if dataset.reading:
        note(dataset.reading)
    if dataset.kind == "text":
        dataset = group_duplicates(dataset, encoding)
    recipe = asked.settled(dataset.kind, sounds=has_sounds(dataset))
    val, test = open_others(dataset, recipe, data_options)
    if continues:
        recipe = stored_recipe(folder, recipe, accept_changes=accept_changes)
    device = pick_device(recipe.device)
    recipe, decisions = resolve_auto(recipe, device, 3 if dataset.kind == "video" else 2)
    for decision in decisions:
        note(f"{decision.key}: {decision.value} ({decision.reason})")
    torch.set_num_threads(recipe.threads or 1)
    job = _Job(
        verb=asked.verb,
        folder=folder,
        recipe=recipe,
        dataset=dataset,
        val=val,
        test=test,
        start=starting_point(recipe, dataset, asked.verb, encoding),
        augment=settled_augment(recipe, dataset),
        device=device,
        world=world,
        continues=continues,
        asked_batch=asked.has("batch_size") or continues,
        header=_header(asked.verb, data),
        started=started,
    )
    is_solved = recipe.freeze == "all" and recipe.head == "solve"
    result = _solve(job) if is_solved else _train(job, accept_changes=accept_changes)
    return Run(folder, result)


def _solve(job: _Job) -> dict[str, Any]:
    """A head on a frozen network: what that says of each item, computed once, and a convex problem."""
    reject_what_has_no_optimum(job.recipe)
    preprocess = job.start.preprocess
    network = starting_network(job.start, job.recipe, job.dataset, preprocess)
    cache = feature_cache(network, preprocess, job.recipe, job.device)
    _compute_together(cache, job.items(), job.world)
    splits = job.split(Preloaded(unreadable=cache.of(job.items()).failures))
    setting = job.setting(job.recipe.changed(_settled(job.start.name, preprocess)), splits, preprocess, network)
    return _solved(setting, cache, job.augment) if job.world.is_main else {}


def _train(job: _Job, *, accept_changes: bool) -> dict[str, Any]:
    """A network trained step by step."""
    preprocess, world = job.start.preprocess, job.world
    preloaded = job.look(preprocess)
    splits = job.split(preloaded)
    preprocess = fitted(preprocess, job.recipe, splits.train)
    if preprocess != job.start.preprocess:
        with quiet():  # the same items again, with the tokens or the scale that are known now
            preloaded = job.look(preprocess)
    network = starting_network(job.start, job.recipe, job.dataset, preprocess)
    recipe = _settled_for(job, network, preprocess, splits, preloaded)
    augment = with_window(job.augment, recipe, preprocess, splits.train)
    setting = job.setting(recipe, splits, preprocess, network)
    trainer = _trainer(setting, _placed(network, recipe, job.device), augment, preloaded, world)
    if job.continues and trainer.resume(accept_changes=accept_changes):
        note(f"resumed from step {trainer.resumed_from_step}")
    elif recipe.freeze == "auto" and recipe.head == "solve":
        cache = feature_cache(network, preprocess, recipe, job.device)
        _compute_together(cache, job.items(), world)
        _begin_with(fit_head(cache, recipe, splits, augment) if world.is_main else None, trainer)
    with freed_memory_kept():
        finished = trainer.run()
    return finish(setting, finished) if world.is_main else {}


def _settled_for(job: _Job, network: ResNet, preprocess: Preprocess, splits: Splits, preloaded: Preloaded) -> Recipe:
    """The recipe with what follows from network and items: input, epochs, and what memory and measurements decide."""
    recipe = job.recipe.changed(_settled(job.start.name, preprocess))
    reject_mixing_of_lengths(recipe, preloaded, preprocess, splits.train)
    if not job.asked_batch and recipe.batch_size > len(splits.train):
        size = max(1, len(splits.train) // 4)
        note(f"batch_size: {size} (there are {len(splits.train)} training items)")
        recipe = recipe.changed({"batch_size": size})
    recipe = recipe.changed({"epochs": whole_epochs(recipe, len(splits.train) // recipe.batch_size)})
    if job.continues:
        return recipe
    sample = preloaded.largest(preprocess, splits.train.items[0])
    recipe = _fitted(recipe, network.to(job.device), preprocess, sample, job.world)
    recipe, compiles = resolve_compile(recipe, network.spec, (recipe.batch_size, *sample.shape), job.device)
    if compiles is not None:
        note(f"{compiles.key}: {compiles.value} ({compiles.reason})")
    return recipe


def _settled(name: str | None, preprocess: Preprocess) -> dict[str, Any]:
    """What the recipe says of network and input once they are known."""
    made: dict[str, Any] = {"model": name, "preprocess": settled_settings(preprocess)}
    if isinstance(preprocess, ImagePreprocess | VideoPreprocess):
        made["image_size"] = preprocess.crop
    return made


def _fitted(recipe: Recipe, network: ResNet, preprocess: Preprocess, sample: Tensor, world: World) -> Recipe:
    """The recipe with a micro-batch where a whole batch would not fit in memory; that is said, with the figures."""
    part = -(-recipe.batch_size // world.size)
    if recipe.micro_batch is not None:
        return recipe
    frozen = "none" if recipe.freeze == "auto" else recipe.freeze
    items, each = fitting_items(network, preprocess, sample, bf16=recipe.precision == "bf16", freeze=frozen)
    if items >= part:
        return recipe
    note(
        f"micro_batch: {items} ({part} items keep {part * each / 2**30:.1f} GiB for the way back, which is more than "
        "memory has for it; each batch norm sees one part at a time)"
    )
    return recipe.changed({"micro_batch": items})


def _agreed_folder(verb: str, out: str | Path | None, world: World, *, resume: bool) -> tuple[Path, bool]:
    """The run's folder, made by the first process, and whether there is a run in it to go on with."""
    if world.size == 1:
        return run_folder(verb, out, resume=resume)
    if out is None:
        raise UserError("several processes need one folder", where="torchrun", fix="name it with --out")
    continues = world.is_main and run_folder(verb, out, resume=resume)[1]
    return user_path(out), world.sum([float(continues)])[0] > 0


def _compute_together(cache: FeatureCache, items: Sequence[Item], world: World) -> None:
    """Each process computes the features of its part of the items; then all find everything on disk."""
    if world.size > 1 and cache.on_disk:
        mine = world.share(range(len(items)))
        cache.of(items[mine.start : mine.stop])
        world.wait()


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
    finished = Fitted(
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
    # A video's head was scored on its centre clip; the score that counts is of clips spread over it.
    return finish(setting, finished, None if setting.splits.train.kind == "video" else probe.scores)


def _begin_with(probe: Probe | None, trainer: Trainer) -> None:
    """Let thawing start from a solved head, and from its scores as what is to be beaten.

    Args:
        probe: the first process's; None in the others, which are given what it found.
    """
    found = [0.0, 0.0, 0.0, 0.0]  # whether there are validation items, their loss and accuracy, the training loss
    if probe is not None:
        note(describe_probe(probe))
        _put_head(trainer.network, probe)
        found[3] = probe.train_loss
        if "val" in probe.scores and probe.val_loss is not None:
            found[:3] = [1.0, probe.val_loss, probe.scores["val"].accuracy]
            note(f"the solved head reaches {found[2]:.2%} on the validation items")
    trainer.world.from_main([trainer.network.fc.weight.detach(), trainer.network.fc.bias.detach()])
    has_scores, loss, accuracy, train_loss = trainer.world.sum(found)
    trainer.begin_at({"val_loss": loss, "val_accuracy": accuracy} if has_scores else {}, train_loss)


@torch.no_grad()
def _put_head(network: ResNet, probe: Probe) -> None:
    network.fc.weight.copy_(probe.choice.head.weight)
    network.fc.bias.copy_(probe.choice.head.bias)


def _placed(network: ResNet, recipe: Recipe, device: torch.device) -> ResNet:
    """The network on its device, in the memory format, synchronised and compiled as the recipe says."""
    if recipe.sync_batch_norm and device.type != "cuda":
        raise UserError(
            "torch synchronises batch norms on GPUs only",
            where="--set sync_batch_norm",
            fix="leave it out: statistics of several processes are averaged after each step in any case",
        )
    if recipe.sync_batch_norm and network.spec.dims == 1:
        raise UserError(
            "torch synchronises no batch norms that leave out padding",
            where="--set sync_batch_norm",
            fix="leave it out: statistics of several processes are averaged after each step in any case",
        )
    if recipe.sync_batch_norm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    network = network.to(device)
    if recipe.memory_format == "channels-last":
        network = network.to(memory_format=weights_layout(network.spec.dims))
    if recipe.compile == "yes":
        network.compile()  # in place: the names of its tensors stay as they are
    return network


def _trainer(setting: Setting, network: ResNet, augment: Augment, preloaded: Preloaded, world: World) -> Trainer:
    recipe, splits, preprocess = setting.recipe, setting.splits, setting.preprocess
    if recipe.batch_size < world.size:
        raise UserError(
            f"a batch of {recipe.batch_size} cannot be shared by {world.size} processes",
            where="--batch-size",
            fix=f"use {world.size} or more, or fewer processes",
        )
    device = network.fc.weight.device
    on_gpu = resident(splits.train.items, preloaded, preprocess, augment, device) if device.type == "cuda" else None
    if on_gpu is not None:
        note(f"the training images are kept on the GPU: {on_gpu.samples.nbytes / 2**20:.0f} MiB")
    batches = TrainingBatches(
        items=splits.train.items,
        classes=len(splits.train.classes),
        preprocess=preprocess,
        augment=augment,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        balanced=recipe.sampling == "balanced",
        store_size=recipe.store_size,
        preloaded=preloaded,
        workers=recipe.workers or 0,
        limit=2 if recipe.smoke else None,
        part=world.share,
        mixes=bool(recipe.mixup or recipe.cutmix),
        pins=device.type == "cuda",
        resident=on_gpu,
    )

    def feature_batches_of(frozen: str | int, epochs: int) -> FeatureBatches | None:
        if world.size > 1:  # what each would gain, all would wait for
            return None
        return make_feature_batches(network, preprocess, recipe, augment, batches, splits.val, frozen, epochs)

    return Trainer(
        network=network,
        batches=batches,
        recipe=recipe,
        validate=None if splits.val is None else Validation(splits.val, preprocess, preloaded, recipe, device, world),
        folder=setting.folder,
        class_counts=list(splits.train.class_counts().values()),
        deadline=None if recipe.time is None else setting.started + recipe.time,
        afterwards=_time_afterwards(splits, preloaded),
        facts={
            "data": splits.train.fingerprint(),
            "validation data": None if splits.val is None else splits.val.fingerprint(),
            "versions": versions(),
            "threads": recipe.threads,
            "instruction set": torch.backends.cpu.get_cpu_capability(),
        },
        make_feature_batches=feature_batches_of,
        world=world,
    )


_CLOSING_SECONDS = 4.0
"""For writing the model, loading the plotting library and drawing the report."""


def _time_afterwards(splits: Splits, preloaded: Preloaded) -> Callable[[float], float]:
    """How long the last validation, the final scores (read from disk again) and the report will take."""
    val, test = len(splits.val or ()), len(splits.test or ())

    def seconds(seconds_an_item: float) -> float:
        return val * seconds_an_item + (val + test) * (seconds_an_item + preloaded.seconds_an_item) + _CLOSING_SECONDS

    return seconds


def _header(verb: str, data: str | Path | Dataset) -> str:
    name = data.source if isinstance(data, Dataset) else data
    return f"# restune {verb} {name} --recipe THIS_FILE repeats the run\n"
