"""The training loop: epochs of steps, a validation after each, the best kept, the state always on disk."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from restune.core import console
from restune.core.errors import UserError
from restune.core.interrupt import Interrupted, noted
from restune.core.machine import memory_mib
from restune.data.batches import TrainingBatch, TrainingBatches
from restune.data.kinds import kind_of
from restune.networks.resnet import ResNet
from restune.training import checkpoint
from restune.training.checkpoint import TrainState
from restune.training.checkpoint_writer import CheckpointWriter
from restune.training.distributed import World
from restune.training.ema import WeightAverage
from restune.training.feature_batches import FeatureBatches
from restune.training.freeze import Phase, apply_freeze, plan_phases
from restune.training.gradients import Gradients
from restune.training.metrics_log import MetricsLog
from restune.training.objective import Objective
from restune.training.optimizer import NamedOptimizer
from restune.training.progress import Progress
from restune.training.recipe import Recipe

Scores = Mapping[str, float]
OnEpoch = Callable[[Mapping[str, Any]], None]
"""Called after each epoch with its record."""
Validate = Callable[[ResNet, FeatureBatches | None], Scores]
"""Measure a network on the validation items: ``val_loss``, ``val_accuracy`` and their ``n``. It may leave it in eval
mode."""
MakeFeatureBatches = Callable[[str | int, int], FeatureBatches | None]
"""What is frozen, and for how many epochs, to batches above it; None where that gains nothing."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a run came to.

    Args:
        state_dict: the best weights by the monitored metric, or the last where nothing is monitored.
        best_epoch: from 1; None where nothing is monitored.
        epochs, steps, images: how much was trained.
        seconds: training and validating.
        resumed_from_step: None for a run that was not resumed.
        loader_share: processor time spent making batches over the time of the epochs.
        more: what else belongs in the result.
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
    """One run of one recipe.

    Args:
        network: on its device, in its memory format.
        batches: the training items as batches.
        recipe: settled: no ``auto`` left.
        validate: None where there are no validation items.
        folder: the run's; metrics, timings and checkpoints go there.
        class_counts: training items a class.
        deadline: `time.perf_counter()` at which a run with ``time`` must have ended.
        afterwards: seconds from the last step to the end of the command, given those an item takes to compute.
        facts: what the numbers depend on besides the recipe; noticed when it changes between stop and resume.
        make_feature_batches: see `MakeFeatureBatches`.
        world: the processes that train together.
    """

    def __init__(
        self,
        *,
        network: ResNet,
        batches: TrainingBatches,
        recipe: Recipe,
        validate: Validate | None,
        folder: Path,
        class_counts: list[int],
        deadline: float | None = None,
        facts: Mapping[str, Any] | None = None,
        afterwards: Callable[[float], float] = lambda _seconds_an_item: 2.0,
        make_feature_batches: MakeFeatureBatches = lambda _frozen, _epochs: None,
        world: World = World(),  # noqa: B008  # a frozen value
    ) -> None:
        self.network, self.batches, self.recipe, self.folder = network, batches, recipe, folder
        self.validate, self.make_feature_batches, self.world = validate, make_feature_batches, world
        objective = Objective(recipe, class_counts, network.fc.weight.device)
        self.gradients = Gradients(network, objective, batches.preprocess, recipe, world)
        self.phases = plan_phases(recipe.freeze, len(network.spec.stages), head_is_solved=recipe.head == "solve")
        self.pace = Progress(recipe, self.phases, len(batches), deadline=deadline, afterwards=afterwards)
        self.facts = dict(facts or {})
        self.state = TrainState(tensors={}, facts=self.facts)
        self.keeper = CheckpointWriter(folder / "checkpoints", recipe.checkpoint, is_writer=world.is_main)
        self.journal = MetricsLog(
            folder,
            is_writer=world.is_main,
            epochs=None if deadline else recipe.epochs,
            noun=kind_of(batches.preprocess.kind).sample_noun,
        )
        self.cached: FeatureBatches | None = None
        self.cached_phase: int | None = None
        self.ema = WeightAverage(network, recipe.ema.decay) if recipe.ema.decay is not None else None
        self.gathered: list[TrainingBatch] = []
        self.progress = 0.0
        self.accept_changes = False
        self.should_stop: Callable[[], int | None] = lambda: None
        self.loader_seconds = self.epoch_seconds = 0.0
        self.resumed_from_step: int | None = None
        self.optimizer = self._enter_phase(0)

    def run(self) -> Fitted:
        """Train to the end, or to the clock's.

        Raises UserError when the loss or a weight is no longer a number, or a checkpoint cannot be written;
        Interrupted when a signal asked to stop, once the state is written.
        """
        try:
            with noted() as self.should_stop:
                while not self._is_over() and not self._is_stale() and self._follow_phase():
                    self._run_epoch()
                weights = self._best_weights()
                if self._has_clock and self.state.step == 0:
                    console.warn("the time was over before the first step: the weights are those it began with")
        finally:
            self.keeper.close()
        return Fitted(
            state_dict=weights,
            best_epoch=None if self.state.best_epoch is None else self.state.best_epoch + 1,
            epochs=self.state.epoch,
            steps=self.state.step,
            images=self.state.images,
            seconds=self.pace.seconds(),
            resumed_from_step=self.resumed_from_step,
            loader_share=self.loader_seconds / max(self.epoch_seconds, 1e-9),
        )

    def resume(self, *, accept_changes: bool = False) -> bool:
        """Take up the newest valid checkpoint of the folder. False where there is none.

        Raises UserError where data, versions or threads changed since, unless `accept_changes`.
        """
        state = checkpoint.read_checkpoint(self.keeper.folder)
        if state is None:
            self.journal.cut_to(-1)
            return False
        changed = [key for key, value in self.facts.items() if state.facts.get(key) != value]
        if changed and not accept_changes:
            raise UserError(
                f"not the same since this run stopped: {', '.join(changed)}",
                where=str(self.folder),
                fix="restore it, or go on with --accept-changes",
            )
        state.facts, self.accept_changes = self.facts, accept_changes
        self._take_weights(state.tensors)
        self.state = state
        self.optimizer = self._enter_phase(state.phase)
        self.optimizer.load_state(state.tensors.get("optimizer", {}))
        self.pace.take_up(state.seconds, state.aside)
        sizes = [size for size in (state.micro_batch, self.gradients.micro_batch) if size is not None]
        self.gradients.micro_batch = min(sizes, default=None)
        self.resumed_from_step = state.step
        self.journal.cut_to(state.epoch)
        return True

    def begin_at(self, scores: Scores, train_loss: float) -> None:
        """Take the network as it is, a solved head on frozen layers, for the first to be beaten."""
        if self.ema is not None:
            self.ema = WeightAverage(self.network, self.ema.decay)
        self.pace.set_aside(self.pace.seconds())
        record = {"epoch": 0, "step": 0, "train_loss": train_loss, **scores, "lr": 0.0}
        self._note_score(record)
        self._open_phase()
        self.journal.add(record)
        self._save()

    def _run_epoch(self) -> None:
        self._read_what_is_frozen()
        started, before, seen = time.perf_counter(), self.loader_seconds, self.state.images
        waited = self.keeper.waited
        apply_freeze(self.network, self.phase.freeze, keep_statistics=self.recipe.keep_statistics)
        mean_loss = self._train_epoch()
        trained = time.perf_counter() - started
        self.epoch_seconds += trained
        scores = self._validate()
        images = self.state.images - seen
        self.state.epoch += 1
        self.state.batches, self.state.epoch_loss = 0, 0.0
        record = {"epoch": self.state.epoch, "step": self.state.step, "train_loss": mean_loss, **scores}
        record["lr"] = self.state.rate
        improved = self._note_score(record)
        timing = {
            "epoch": self.state.epoch,
            "seconds": round(time.perf_counter() - started, 3),
            "images_per_second": round(images / max(trained, 1e-9), 1),
            "loader_share": round((self.loader_seconds - before) / max(trained, 1e-9), 4),
            "checkpoint_seconds": round(self.keeper.waited - waited, 3),
            "memory_mib": memory_mib(),
        }
        self.journal.add(record, timing)
        self._save()
        self.journal.say(record, timing, is_best=improved)
        number = _signal(self.world.sum(_flags(self.should_stop())))
        if number:
            self.keeper.finish()
            raise Interrupted(number, self.folder)

    def _train_epoch(self) -> float:
        """Mean loss of the epoch."""
        total = len(self.batches)
        with console.progress(f"epoch {self.state.epoch + 1}", total, unit="batches") as advance:
            advance(self.state.batches)
            source = self.batches if self.cached is None else self.cached
            for batch in source.epoch(self.state.epoch, self.state.epoch * total, self.state.batches):
                self._step(batch, last=self.state.batches + 1 == total)
                advance(1)
                if self.progress >= 1.0 or (self._has_clock and self.pace.phase_at(self.progress) != self.state.phase):
                    break
        if self.gathered:  # the clock cut a group of batches short
            self.gathered.clear()
            self.optimizer.forget()
        return self.state.epoch_loss / max(1, self.state.batches)

    def _step(self, batch: TrainingBatch, *, last: bool) -> None:
        """One batch forward and back, and a step of the optimiser when enough have been gathered."""
        accumulate = self.recipe.optimizer.accumulate
        steps = (self.state.batches + 1) % accumulate == 0 or last
        cut = None if self.cached is None else self.cached.cut
        group = min(accumulate, len(self.batches) - (self.state.batches - len(self.gathered)))
        loss = self.gradients.add(batch, self.gathered, cut, group=group, last=steps)
        self.gathered.append(batch)
        self.state.batches += 1
        self.state.images += self.batches.batch_size
        self.loader_seconds += batch.seconds
        stops_by = self._agree(loss)
        if steps:
            self.gathered.clear()
            self.state.rate = self.optimizer.step(self.pace.rate(self.state, self.progress))
            self.state.step += 1
            if self.ema is not None:
                self.ema.update(self.network, self.state.step, self.phase.freeze)
            if stops_by:
                self._save(now=True)
                raise Interrupted(stops_by, self.folder)
            if not last and self.keeper.is_due(self.state):
                self._save()

    def _agree(self, loss: float) -> int:
        """Note the whole batch's loss and the run's progress, the same in all processes. The signal that any of them
        got, or 0."""
        number = self.should_stop() or 0
        if self.world.size == 1:
            self.progress = 1.0 if self.pace.is_late(self.state) else self.pace.run_progress(self.state)
        else:
            late = self.pace.is_late(self.state)
            mine = (1.0 if late else self.pace.run_progress(self.state)) if self.world.is_main else 0.0
            loss, self.progress, *flags = self.world.sum([loss, mine, *_flags(number)])
            number = _signal(flags)
            self.world.average(_statistics(self.network))
        if not math.isfinite(loss):
            self._stop_for(loss)
        self.state.epoch_loss += loss
        return number

    @property
    def phase(self) -> Phase:
        """The part of the run that is being trained."""
        return self.phases[self.state.phase]

    @property
    def _has_clock(self) -> bool:
        return self.pace.deadline is not None

    def _enter_phase(self, index: int) -> NamedOptimizer:
        self.state.phase = index
        apply_freeze(self.network, self.phase.freeze, keep_statistics=self.recipe.keep_statistics)
        self.gradients.renew()
        return NamedOptimizer(self.network, self.recipe.optimizer, self.phase.lr_scale)

    def _follow_phase(self) -> bool:
        """Go on to the phase that this much of the run belongs to; momentum starts afresh there.

        False where the phase that ended bought nothing: thawing further is then not worth the time. A budget of time is
        used up all the same, since the best weights are kept whatever comes.
        """
        mine = self.pace.run_progress(self.state) if self.world.is_main else 0.0
        index = self.pace.phase_at(self.world.sum([mine])[0])
        if index == self.state.phase:
            return True
        if not self._phase_paid():
            return False
        self.optimizer = self._enter_phase(index)
        self._open_phase()
        learning = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        console.note(f"thawing: {_what_learns(self.phase.freeze)}, {learning:,} numbers")
        return True

    def _open_phase(self) -> None:
        self.state.phase_score, self.state.phase_loss = self.state.best_score, self.state.val_loss
        self.state.phase_step, self.state.views = self.state.step, None

    def _phase_paid(self) -> bool:
        """Whether the phase that ended improved the monitored score or the validation loss; said on screen."""
        before, now = self.state.phase_score, self.state.best_score
        loss_before, loss = self.state.phase_loss, self.state.val_loss
        if before is None or now is None or loss_before is None or loss is None:
            return True
        if self.state.step == self.state.phase_step:  # it had no time to
            return True
        paid = now != before or loss < loss_before
        console.note(
            f"{_what_learns(self.phase.freeze)}: best {self.recipe.monitor} {before:.4f} to {now:.4f}, "
            f"val_loss {loss_before:.4f} to {loss:.4f}"
            + (
                ""
                if paid
                else "; the time left is used all the same"
                if self._has_clock
                else ": nothing more is thawed"
            )
        )
        return paid or self._has_clock

    def _take_weights(self, sections: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.network.load_state_dict(sections["network"])
        if self.ema is not None:
            for name, value in sections["ema"].items():
                self.ema.average[name].copy_(value)

    def _read_what_is_frozen(self) -> None:
        """Features of the phase's frozen layers in the place of images, where that pays."""
        if self.cached_phase == self.state.phase:
            return
        started = time.perf_counter()
        self.cached = self.make_feature_batches(self.phase.freeze, self.pace.epochs_of(self.state.phase))
        self.cached_phase = self.state.phase
        self.pace.set_aside(time.perf_counter() - started)
        views = 0 if self.cached is None else len(self.cached.views)
        if self.state.views not in (None, views) and not self.accept_changes:
            raise UserError(
                f"this run kept {self.state.views} views of frozen layers' features, and now it would keep {views}: "
                "disk space or processes are not what they were",
                where=str(self.folder),
                fix="restore that, or go on with --accept-changes",
            )
        self.state.views = views

    def _is_over(self) -> bool:
        return self.world.sum([float(self.world.is_main and self.pace.is_over(self.state))])[0] > 0

    def _is_stale(self) -> bool:
        patience = self.recipe.early_stopping.patience
        stale = patience is not None and self.state.stale_epochs >= patience
        if stale:
            console.note(f"stopped early: {self.recipe.monitor} has not improved for {patience} epochs")
        return stale

    def _validate(self) -> Scores:
        if self.validate is None:
            return {}
        started = time.perf_counter()
        with self._averaged_weights():
            scores = dict(self.validate(self.network, self.cached))
        self.pace.seconds_an_item = (time.perf_counter() - started) / max(1.0, scores.pop("n"))
        return scores

    def _averaged_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self.ema is None else _Swapped(self.network, self.ema.average)

    def _note_score(self, record: Mapping[str, Any]) -> bool:
        """Whether this epoch is the best so far by the monitored metric."""
        self.state.val_loss = record.get("val_loss")
        score = record.get(self.recipe.monitor)
        if score is None:
            return False
        sign = 1.0 if self.recipe.monitor == "val_accuracy" else -1.0
        best = self.state.best_score
        finite = math.isfinite(score) and math.isfinite(record.get("val_loss", 0.0))
        improved = finite and (best is None or sign * (score - best) > self.recipe.early_stopping.min_delta)
        if improved:
            self.state.best_score, self.state.best_epoch, self.state.stale_epochs = score, self.state.epoch - 1, 0
            self.state.best_step = self.state.step
        else:
            self.state.stale_epochs += 1
        return improved

    def _save(self, *, now: bool = False) -> None:
        """Have the state written, beside the training unless `now`."""
        self.state.tensors = {"network": dict(self.network.state_dict()), "optimizer": self.optimizer.state()}
        if self.ema is not None:
            self.state.tensors["ema"] = self.ema.average
        self.state.seconds, self.state.aside = self.pace.seconds(), self.pace.aside
        self.state.micro_batch = self.gradients.micro_batch
        self.keeper.keep(self.state, now=now)

    def _best_weights(self) -> dict[str, Tensor]:
        section = "network" if self.ema is None else "ema"
        best = self.keeper.best(self.state) if self.world.is_main else None
        if best is not None:
            return best[section]
        weights = self.network.state_dict() if self.ema is None else self.ema.average
        return {name: value.detach().cpu().clone() for name, value in weights.items()}

    def _stop_for(self, value: float) -> None:
        items = [item for batch in self.gathered for item in batch.items]
        names = ", ".join(item.id for item in items[:5])
        raise UserError(
            f"the loss became {value} at step {self.state.step}, epoch {self.state.epoch + 1}",
            where=f"items {names}, ... ({len(items)} in the batch)",
            fix="lower the learning rate (--lr), clip gradients (--set optimizer.clip_norm=1), or use "
            "--precision fp32; the last good checkpoint is kept",
        )


class _Swapped(AbstractContextManager[None]):
    """A network with other weights for a while."""

    def __init__(self, network: ResNet, weights: Mapping[str, Tensor]) -> None:
        self.network, self.weights = network, weights

    def __enter__(self) -> None:
        self.kept = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.weights)

    def __exit__(self, *_error: object) -> None:
        self.network.load_state_dict(self.kept)


_STOPPING = (signal.SIGINT, signal.SIGTERM)


def _flags(number: int | None) -> list[float]:
    """Which signal a process got, as numbers that may be summed over processes."""
    return [float(number == known) for known in _STOPPING]


def _signal(flags: list[float]) -> int:
    """The signal that any process got, or 0."""
    return max((known for known, count in zip(_STOPPING, flags, strict=True) if count), default=0)


def _statistics(network: ResNet) -> list[Tensor]:
    """What batch norms that learn keep of the data."""
    return [
        value
        for module in network.modules()
        if module.training
        for value in module.buffers(recurse=False)
        if value.is_floating_point()
    ]


def _what_learns(freeze: str | int) -> str:
    """What a policy leaves to learn, in words."""
    if freeze == "none":
        return "all layers learn"
    if freeze == "all":
        return "the head learns"
    return f"the head and the stages above {freeze} learn"
