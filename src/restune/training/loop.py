"""The training loop: for each epoch train, validate, select the best, log and write a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from restune.core import console
from restune.core.interrupt import Interrupted, noted
from restune.data.batches import TrainingBatch, TrainingBatches
from restune.data.kinds import kind_of
from restune.networks.custom import Network, device_of
from restune.training import checkpoint, thawing
from restune.training.checkpoint import TrainState
from restune.training.checkpoint_writer import CheckpointWriter
from restune.training.distributed import World, average_statistics, received_signal, signal_flags
from restune.training.ema import average_of
from restune.training.epoch_status import EpochStatus
from restune.training.feature_batches import FeatureBatches
from restune.training.freeze import apply_freeze
from restune.training.gradients import Gradients, OwnAugment, not_finite
from restune.training.image_sizes import ImageSizes
from restune.training.metrics_log import Counters, EpochRecord, EpochTiming, MetricsLog, StepRecord, is_imbalanced
from restune.training.norm_statistics import reestimate
from restune.training.objective import Objective, OwnLoss
from restune.training.progress import Progress, planned_epochs
from restune.training.recipe import Recipe
from restune.training.selection import breaks_tie, improves, is_stale

Scores = Mapping[str, float]
Validate = Callable[[Network, FeatureBatches | None], Scores]
"""Measure a network on the validation items: ``val_loss``, ``val_accuracy`` and their ``n``. It may leave it in eval
mode."""
MakeFeatureBatches = Callable[[str | int, int], FeatureBatches | None]
"""From the freezing policy and the number of epochs, batches of the frozen layers' features; None where caching them
does not save time."""
OnEpoch = Callable[[EpochRecord], None]
OnStep = Callable[[StepRecord], None]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The result of a training run.

    Args:
        state_dict: the best weights by the monitored metric; the last where nothing is monitored.
        best_epoch: from 1; None where nothing is monitored.
        epochs, steps, images: epochs, optimiser steps and training images.
        seconds: of training and validation.
        resumed_from_step: None for a run that was not resumed.
        loader_share: processor time spent making batches, over training time.
        more: further entries of result.json.
    """

    state_dict: dict[str, Tensor]
    best_epoch: int | None
    epochs: int
    steps: int
    images: int
    seconds: float
    resumed_from_step: int | None
    loader_share: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)


class Trainer:
    """Trains a network by a recipe.

    Args:
        network: on its device, in its memory format.
        batches: of the training items.
        recipe: without ``auto``.
        validate: None without validation items.
        folder: of the run, for metrics, timings and checkpoints.
        class_counts: training items per class.
        deadline: `time.perf_counter()` at which a run with ``time`` must have ended.
        facts: data, versions and machine that the results depend on; `resume` refuses to continue where they changed.
        afterwards: seconds from the last step to the end of the command, from the seconds of a forward pass per item.
        make_feature_batches: see `MakeFeatureBatches`.
        on_epoch: called in the main process after each epoch, once its checkpoint is handed over for writing. It may
            raise to stop the run: `run` raises the same exception once the checkpoint is written, and the run can be
            resumed. Not called for a fitted head before the first epoch.
        on_step: called in the main process after each optimiser step. An exception that it raises ends the run.
        loss, augment: the caller's own, see `Objective` and `OwnAugment`.
        world: the processes that train together.
        task: of the data.
    """

    def __init__(
        self,
        *,
        network: Network,
        batches: TrainingBatches,
        recipe: Recipe,
        validate: Validate | None,
        folder: Path,
        class_counts: list[int],
        deadline: float | None = None,
        facts: Mapping[str, Any] | None = None,
        afterwards: Callable[[float], float] = lambda _seconds_an_item: 2.0,
        make_feature_batches: MakeFeatureBatches = lambda _freeze, _epochs: None,
        on_epoch: OnEpoch | None = None,
        on_step: OnStep | None = None,
        loss: OwnLoss | None = None,
        augment: OwnAugment | None = None,
        world: World = World(),  # noqa: B008  # a frozen value
        task: str = "single-label",
    ) -> None:
        self.network, self.batches, self.recipe, self.folder, self.world = network, batches, recipe, folder, world
        self.validate, self.make_feature_batches = validate, make_feature_batches
        self.on_epoch, self.on_step = on_epoch, on_step
        self.facts = dict(facts or {})
        plan = thawing.plan_phases(recipe.freeze, len(network.spec.stages), head_is_fitted=recipe.head == "solve")
        self.phases = thawing.Phases(plan, planned_epochs(recipe, len(batches)))
        self.progress = Progress(recipe, self.phases, len(batches), deadline=deadline, afterwards=afterwards)
        self.optimizer = thawing.enter_phase(network, self.phases[0], recipe)
        objective = Objective(recipe, class_counts, device_of(network), loss, task)
        self.gradients = Gradients(network, objective, batches.preprocess, recipe, world, augment)
        self.ema = average_of(network, recipe.ema)
        self.image_sizes = ImageSizes.of(recipe)
        self.writer = CheckpointWriter(folder / "checkpoints", recipe.checkpoint, is_writer=world.is_main)
        kind = kind_of(batches.preprocess.kind)
        epochs = None if deadline is not None else recipe.epochs
        self.log = MetricsLog(
            folder, is_writer=world.is_main, epochs=epochs, kind=kind, is_imbalanced=is_imbalanced(class_counts)
        )
        self.state = TrainState(tensors={}, facts=self.facts)
        self.features: FeatureBatches | None = None
        self.features_phase: int | None = None
        self.accumulated: list[TrainingBatch] = []
        self.run_progress = self.step_progress = self.loader_seconds = self.training_seconds = 0.0
        self.val_accuracy: float | None = None
        self.resumed_from_step: int | None = None
        self.accept_changes = False
        self.should_stop: Callable[[], int | None] = lambda: None

    def run(self) -> Fitted:
        """Train until the last epoch, the time limit or early stopping.

        Raises:
            UserError: where the loss or a weight is NaN or infinite, or a checkpoint cannot be written.
            Interrupted: after SIGINT or SIGTERM, once a checkpoint is written.
        """
        try:
            with noted() as self.should_stop:
                while not self._is_over() and not self._is_stale() and self._follow_phases():
                    self._run_epoch()
                weights = self._best_weights()
                if self.progress.has_time_limit and self.state.step == 0:
                    console.warn("the time limit was reached before the first step: the weights are the initial ones")
        finally:
            self.writer.close()
        best = self.state.best_epoch
        return Fitted(
            state_dict=weights,
            best_epoch=None if best is None else best + 1,
            epochs=self.state.epoch,
            steps=self.state.step,
            images=self.state.images,
            seconds=self.progress.seconds(),
            resumed_from_step=self.resumed_from_step,
            loader_share=self.loader_seconds / max(self.training_seconds, 1e-9),
        )

    def resume(self, *, accept_changes: bool = False) -> bool:
        """Load the newest valid checkpoint of the folder. Returns False without one.

        Raises:
            UserError: where data, versions or threads have changed since, unless `accept_changes`.
        """
        state = checkpoint.read_checkpoint(self.writer.folder)
        if state is None:
            self.log.truncate(-1)
            return False
        if not accept_changes:
            checkpoint.reject_changes(state, self.facts, self.folder)
        self.state, self.accept_changes = replace(state, facts=self.facts), accept_changes
        self.network.load_state_dict(state.tensors["network"])
        if self.ema is not None:
            self.ema.load(state.tensors["ema"])
        self._enter_phase(state.phase)
        self.optimizer.load_state(state.tensors.get("optimizer", {}))
        self.progress.resume(state.seconds, state.aside)
        self.gradients.limit_micro_batch(state.micro_batch)
        self.log.truncate(state.epoch)
        self.resumed_from_step = state.step
        return True

    def next_rate(self) -> float:
        """The learning rate of the next step, of layers without layer decay."""
        state = self.state
        after = replace(state, batches=state.batches + 1)
        share = self.progress.lr_multiplier(state.phase, self.progress.run_progress(after), state.step)
        return self.recipe.optimizer.lr * self.phases[state.phase].lr_scale * share

    def begin_at(self, scores: Scores, train_loss: float) -> None:
        """Start from the network as it is now, with a fitted head, as epoch 0: its scores are the first best."""
        if self.ema is not None:
            self.ema = self.ema.restarted(self.network)
        self.progress.exclude(self.progress.seconds())
        record = EpochRecord.of(self.state, train_loss, scores)
        self._select(record)
        self.state.begin_phase(0)
        self.log.add(record)
        self._write_checkpoint()

    def _run_epoch(self) -> None:
        """Train, validate, select the best, log, write a checkpoint."""
        self._cache_features()
        start = self._counters()
        train_loss = self._train_epoch()
        trained = self._counters()
        self.training_seconds += trained.time - start.time
        scores = self._validate()
        self.state.end_epoch()
        record = EpochRecord.of(self.state, train_loss, scores)
        is_best = self._select(record)
        timing = EpochTiming.of(record.epoch, start, trained, self._counters())
        self.log.add(record, timing)
        self._write_checkpoint()
        self.log.show(record, timing, is_best=is_best)
        if self.on_epoch is not None and self.world.is_main:
            self.on_epoch(record)
        self._stop_if_signalled()

    def _train_epoch(self) -> float:
        """Train on the batches of the epoch that are left. Returns the mean loss of the epoch."""
        state, total = self.state, len(self.batches)
        self.run_progress = self.step_progress = self._shared_progress()
        apply_freeze(self.network, self.phases[state.phase].freeze, keep_statistics=self.recipe.keep_statistics)
        source = self.batches if self.features is None else self.features
        status = EpochStatus(
            self.progress, state, total, self.log, lambda: self.val_accuracy, lambda: self.gradients.image_size
        )
        with console.status_line(status.fields):
            for batch in source.epoch(state.epoch, state.epoch * total, state.batches):
                self._step(batch, last=state.batches + 1 == total)
                if self._must_cut_epoch():
                    break
        if self.accumulated:  # the time limit came between two optimiser steps
            self.accumulated.clear()
            self.optimizer.zero_grad()
        return state.epoch_loss / max(1, state.batches)

    def _step(self, batch: TrainingBatch, *, last: bool) -> None:
        """Forward and backward pass of a batch, and an optimiser step once enough batches are accumulated."""
        state, accumulate = self.state, self.recipe.optimizer.accumulate
        steps = (state.batches + 1) % accumulate == 0 or last
        group = min(accumulate, len(self.batches) - (state.batches - len(self.accumulated)))
        cut = None if self.features is None else self.features.cut
        self.gradients.image_size = self.image_sizes.at(self.step_progress)
        loss = self.gradients.add(batch, self.accumulated, cut, group=group, last=steps)
        self.accumulated.append(batch)
        state.batches += 1
        state.images += self.batches.batch_size
        self.loader_seconds += batch.seconds
        loss, self.run_progress, stop_signal = self._synchronize(loss)
        if not math.isfinite(loss):
            raise not_finite(loss, self.accumulated, state.step, state.epoch + 1)
        state.epoch_loss += loss
        if not steps:
            return
        self.accumulated.clear()
        # As torch's schedulers: the rate at the step's beginning, so that the last step's is above the schedule's end.
        state.rate = self.optimizer.step(self.progress.lr_multiplier(state.phase, self.step_progress, state.step))
        state.step += 1
        # A lengthened run follows another schedule from a certain step on.
        self.step_progress = self._shared_progress() if self.recipe.lengthened else self.run_progress
        if self.ema is not None:
            self.ema.update(self.network, state.step, self.phases[state.phase].freeze, self.run_progress)
        if self.on_step is not None and self.world.is_main:
            self.on_step(self._step_record(loss))
        if stop_signal is not None:
            self._write_checkpoint(now=True)
            raise Interrupted(stop_signal, self.folder)
        if not last and self.writer.is_due(state):
            self._write_checkpoint()

    def _step_record(self, loss: float) -> StepRecord:
        state = self.state
        return StepRecord(
            step=state.step, epoch=state.epoch + 1, loss=loss, lr=state.rate, images=state.images, network=self.network
        )

    def _synchronize(self, loss: float) -> tuple[float, float, int | None]:
        """The whole batch's loss, the run's progress and a stop signal, the same in all processes."""
        stop_signal = self.should_stop()
        run_progress = 1.0 if self.progress.is_late(self.state) else self.progress.run_progress(self.state)
        if self.world.size == 1:
            return loss, run_progress, stop_signal
        mine = run_progress if self.world.is_main else 0.0
        loss, run_progress, *flags = self.world.sum([loss, mine, *signal_flags(stop_signal)])
        average_statistics(self.network, self.world)
        return loss, run_progress, received_signal(flags)

    def _validate(self) -> Scores:
        """Measure the network, with averaged weights where the recipe says so, on the validation items."""
        if self.validate is None:
            return {}
        started = time.perf_counter()
        with nullcontext() if self.ema is None else self.ema.applied_to(self.network):
            self._reestimate_statistics()
            scores = dict(self.validate(self.network, self.features))
        self.progress.measure_validation(time.perf_counter() - started, scores.pop("n"))
        return scores

    def _reestimate_statistics(self) -> None:
        """Estimate the batch-norm statistics of the weights to be validated, where the recipe says so."""
        if self.recipe.norm_batches and self.features is None:
            count = self.recipe.norm_batches
            reestimate(self.network, self.batches, self.gradients, self.state.epoch, count)
            if self.ema is not None:
                self.ema.copy_statistics(self.network)

    def _select(self, record: EpochRecord) -> bool:
        """Whether this epoch is the best so far by the monitored metric; noted in the state."""
        monitor, best = self.recipe.monitor, self.state.best_score
        score, min_delta = record.score(monitor), self.recipe.early_stopping.min_delta
        self.val_accuracy = record.val_accuracy
        self.state.val_loss = record.val_loss
        if score is None:
            return False
        is_better = improves(score, best, monitor=monitor, val_loss=record.val_loss)
        is_best = is_better or breaks_tie(score, best, val_loss=record.val_loss, best_loss=self.state.best_loss)
        reference = best if self.state.patience_score is None else self.state.patience_score
        resets_patience = improves(score, reference, monitor=monitor, min_delta=min_delta, val_loss=record.val_loss)
        self.state.select(score, is_best=is_best, improves=resets_patience)
        return is_best

    def _write_checkpoint(self, *, now: bool = False) -> None:
        """Hand the state over for writing in the background; with `now`, wait until it is written."""
        self.state.tensors = {"network": dict(self.network.state_dict()), "optimizer": self.optimizer.state()}
        if self.ema is not None:
            self.state.tensors["ema"] = self.ema.average
        self.state.seconds, self.state.aside = self.progress.seconds(), self.progress.excluded
        self.state.micro_batch = self.gradients.micro_batch
        self.writer.write(self.state, now=now)

    def _best_weights(self) -> dict[str, Tensor]:
        """The best epoch's weights, averaged where the recipe says so; else the last ones."""
        best = self.writer.best_tensors(self.state) if self.world.is_main else None
        if best is not None:
            return best["network" if self.ema is None else "ema"]
        weights = self.network.state_dict() if self.ema is None else self.ema.average
        return {name: value.detach().cpu().clone() for name, value in weights.items()}

    def _follow_phases(self) -> bool:
        """Enter the phase that this share of the run belongs to. Returns False where the run ends instead, because the
        phase before it brought no improvement."""
        index = self.progress.phase_at(self._shared_progress(), self.state.step)
        if index == self.state.phase:
            return True
        ended, has_time_limit = self.phases[self.state.phase], self.progress.has_time_limit
        if not thawing.is_worth_unfreezing(self.state, ended, self.recipe.monitor, has_time_limit=has_time_limit):
            return False
        self._enter_phase(index)
        self.state.begin_phase(index)
        console.note(thawing.describe_unfreezing(self.network, self.phases[index]))
        return True

    def _enter_phase(self, index: int) -> None:
        self.optimizer = thawing.enter_phase(self.network, self.phases[index], self.recipe)
        self.gradients.rewrap()

    def _cache_features(self) -> None:
        """Cache the features of the phase's frozen layers, where that saves time; batches then hold features."""
        phase, before = self.state.phase, self.state.views
        if self.features_phase == phase:
            return
        with self.progress.excluding():
            self.features = self.make_feature_batches(self.phases[phase].freeze, self.progress.epochs_in(phase))
        self.features_phase = phase
        self.state.views = thawing.count_views(self.features, before, self.folder, accept_changes=self.accept_changes)

    def _shared_progress(self) -> float:
        """The share of the run that is done, by the main process's clock."""
        return self.world.sum([self.progress.run_progress(self.state) if self.world.is_main else 0.0])[0]

    def _is_over(self) -> bool:
        return self.world.sum([float(self.world.is_main and self.progress.is_over(self.state))])[0] > 0

    def _is_stale(self) -> bool:
        patience = self.recipe.early_stopping.patience
        if self.progress.begins_length(self.state):  # who asks for more epochs has more patience, too
            self.state.stale_epochs = 0
        if not is_stale(self.state.stale_epochs, patience):
            return False
        console.note(f"early stopping: {self.recipe.monitor} has not improved for {patience} epochs")
        return True

    def _must_cut_epoch(self) -> bool:
        """Whether the run ends within this epoch, or, with a time limit, the next phase begins."""
        in_phase = self.progress.phase_at(self.run_progress, self.state.step) == self.state.phase
        return self.run_progress >= 1.0 or (self.progress.has_time_limit and not in_phase)

    def _stop_if_signalled(self) -> None:
        number = received_signal(self.world.sum(signal_flags(self.should_stop())))
        if number is not None:
            self.writer.finish()
            raise Interrupted(number, self.folder)

    def _counters(self) -> Counters:
        return Counters(
            time=time.perf_counter(),
            images=self.state.images,
            loader_seconds=self.loader_seconds,
            checkpoint_seconds=self.writer.seconds_waited,
        )
