"""The training loop: epochs of steps, a validation after each, the best kept, the state always on disk."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restune.core import console
from restune.core.errors import UserError
from restune.core.files import write_text
from restune.core.streams import torch_seed
from restune.data.batches import TrainingBatch, TrainingBatches
from restune.networks.resnet import ResNet
from restune.training import checkpoint
from restune.training.cached import CachedBatches
from restune.training.checkpoint import TrainState
from restune.training.ema import WeightAverage
from restune.training.freeze import Phase, apply_freeze, plan_phases
from restune.training.objective import Objective
from restune.training.optimizer import NamedOptimizer
from restune.training.recipe import Recipe
from restune.training.schedule import multiplier

Scores = Mapping[str, float]
Validate = Callable[[ResNet, CachedBatches | None], Scores]
"""Measure a network on the validation items: ``val_loss``, ``val_accuracy`` and their ``n``. It may leave it in eval
mode."""
MakeCached = Callable[[str | int, int], CachedBatches | None]
"""What is frozen, and for how many epochs, to batches above it; None where that gains nothing."""


_GUESSED_EPOCHS = 10
"""Of a phase, where the clock decides."""


@dataclass(frozen=True, kw_only=True)
class Finished:
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
        make_cached: see `MakeCached`.
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
        make_cached: MakeCached = lambda _frozen, _epochs: None,
    ) -> None:
        self.network, self.batches, self.recipe, self.folder = network, batches, recipe, folder
        self.device = network.fc.weight.device
        self.validate = validate
        self.deadline = deadline
        self.objective = Objective(recipe, class_counts, self.device)
        self.phases = plan_phases(recipe.freeze, len(network.spec.stages), head_is_solved=recipe.head == "solve")
        self.phase_ends = self._phase_ends()
        self.facts = dict(facts or {})
        self.state = TrainState(tensors={}, facts=self.facts)
        self.make_cached = make_cached
        self.cached: CachedBatches | None = None
        self.cached_phase: int | None = None
        self.ema = WeightAverage(network, recipe.ema.decay) if recipe.ema.decay is not None else None
        self.optimizer = self._enter_phase(0)
        self.started = time.perf_counter()
        self.loader_seconds = self.epoch_seconds = 0.0
        self.seconds_an_item = 0.0
        self.afterwards = afterwards
        self.resumed_from_step: int | None = None
        self.best_path: Path | None = None

    def run(self) -> Finished:
        """Train to the end, or to the clock's. Raises UserError when the loss is no longer a number."""
        epochs = 10**9 if self.deadline is not None else self.recipe.epochs
        while self.state.epoch < epochs and not self._is_late() and not self._is_stale() and self._follow_phase():
            self._run_epoch()
        return Finished(
            state_dict=self._best_weights(),
            best_epoch=None if self.state.best_epoch is None else self.state.best_epoch + 1,
            epochs=self.state.epoch,
            steps=self.state.step,
            images=self.state.images,
            seconds=self.state.seconds + time.perf_counter() - self.started,
            resumed_from_step=self.resumed_from_step,
            loader_share=self.loader_seconds / max(self.epoch_seconds, 1e-9),
        )

    def resume(self, *, accept_changes: bool = False) -> bool:
        """Take up the newest valid checkpoint of the folder. False where there is none.

        Raises UserError where data, versions or threads changed since, unless `accept_changes`.
        """
        state = checkpoint.read_checkpoint(self._checkpoints)
        if state is None:
            return False
        changed = [key for key, value in self.facts.items() if state.facts.get(key) != value]
        if changed and not accept_changes:
            raise UserError(
                f"not the same since this run stopped: {', '.join(changed)}",
                where=str(self.folder),
                fix="restore it, or go on with --accept-changes",
            )
        state.facts = self.facts
        self._take_weights(state.tensors)
        self.state = state
        self.optimizer = self._enter_phase(state.phase)
        self.optimizer.load_state(state.tensors.get("optimizer", {}))
        self.resumed_from_step = state.step
        if state.best_epoch is not None:
            found = [path for path in checkpoint.checkpoints(self._checkpoints) if _ends_epoch(path, state.best_epoch)]
            self.best_path = found[0] if found else None
        self._truncate_metrics()
        return True

    def begin_at(self, scores: Scores, train_loss: float) -> None:
        """Take the network as it is, a solved head on frozen layers, for the first to be beaten."""
        if self.ema is not None:
            self.ema = WeightAverage(self.network, self.ema.decay)
        record = {"epoch": 0, "step": 0, "train_loss": train_loss, **scores, "lr": 0.0}
        improved = self._note_score(record)
        self._open_phase()
        _append(self.folder / "metrics.jsonl", record)
        self._save(improved)

    def _run_epoch(self) -> None:
        started, before, seen = time.perf_counter(), self.loader_seconds, self.state.images
        self._read_what_is_frozen()
        apply_freeze(self.network, self.phase.freeze)
        mean_loss, rate = self._train_epoch()
        trained = time.perf_counter() - started
        self.epoch_seconds += trained
        scores = self._validate()
        images = self.state.images - seen
        self.state.epoch += 1
        self.state.batches, self.state.epoch_loss = 0, 0.0
        record = {"epoch": self.state.epoch, "step": self.state.step, "train_loss": mean_loss, **scores, "lr": rate}
        improved = self._note_score(record)
        seconds = time.perf_counter() - started
        timing = {
            "epoch": self.state.epoch,
            "seconds": round(seconds, 3),
            "images_per_second": round(images / max(trained, 1e-9), 1),
            "loader_share": round((self.loader_seconds - before) / max(trained, 1e-9), 4),
            "memory_mib": _memory_mib(),
        }
        _append(self.folder / "metrics.jsonl", record)
        _append(self.folder / "timings.jsonl", timing)
        self._save(improved)
        self._say(record, timing, improved)

    def _train_epoch(self) -> tuple[float, float]:
        """Mean loss of the epoch, and the last learning rate."""
        rate = self.optimizer.optimizer.param_groups[-1]["peak"]
        total = len(self.batches)
        with console.progress(f"epoch {self.state.epoch + 1}", total, unit="batches") as advance:
            advance(self.state.batches)
            source = self.batches if self.cached is None else self.cached
            for batch in source.epoch(self.state.epoch, self.state.epoch * total, self.state.batches):
                rate = self._step(batch, last=self.state.batches + 1 == total)
                advance(1)
                if self._is_late() or (self.deadline is not None and self._phase_by_progress() != self.state.phase):
                    break
        return self.state.epoch_loss / max(1, self.state.batches), rate

    def _step(self, batch: TrainingBatch, *, last: bool) -> float:
        """One batch forward and back, and a step of the optimiser when enough have been gathered."""
        accumulate = self.recipe.optimizer.accumulate
        self._seed_torch(batch)
        logits, targets = self._forward(batch)
        loss = self.objective.loss(logits, targets)
        torch.autograd.backward(loss / accumulate)
        value = float(loss.detach())
        if not math.isfinite(value):
            self._stop_for(value, batch)
        self.state.epoch_loss += value
        self.state.batches += 1
        self.state.images += len(batch.items)
        self.loader_seconds += batch.seconds
        factor = multiplier(self.recipe.schedule, self._progress(), self._warmup())
        if self.state.batches % accumulate == 0 or last:
            self.optimizer.step(factor)
            self.state.step += 1
            if self.ema is not None:
                self.ema.update(self.network, self.state.step, self.phase.freeze)
        return float(self.optimizer.optimizer.param_groups[-1]["lr"])

    def _forward(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Logits and targets, from images or from what the frozen layers said of them."""
        images = batch.images.to(self.device, non_blocking=True)
        targets = batch.targets.to(self.device, non_blocking=True)
        if self.cached is not None:
            if images.ndim == 4:
                images = images.contiguous(memory_format=self._format)
            with self._autocast():
                return self.network.run_above(images, self.cached.cut), targets
        images = self.batches.preprocess.normalize(images)
        images, targets = self.objective.prepare(images, targets, batch.place)
        images = images.contiguous(memory_format=self._format)
        with self._autocast():
            return self.network(images), targets

    @property
    def phase(self) -> Phase:
        """The part of the run that is being trained."""
        return self.phases[self.state.phase]

    def _enter_phase(self, index: int) -> NamedOptimizer:
        self.state.phase = index
        apply_freeze(self.network, self.phase.freeze)
        return NamedOptimizer(self.network, self.recipe.optimizer, self.phase.lr_scale)

    def _phase_by_progress(self) -> int:
        done = self._run_progress()
        return next((i for i, end in enumerate(self.phase_ends) if done < end - 1e-9), len(self.phases) - 1)

    def _follow_phase(self) -> bool:
        """Go on to the phase that this much of the run belongs to; momentum starts afresh there.

        False where the phase that ended bought nothing: thawing further is then not worth the time.
        """
        index = self._phase_by_progress()
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

    def _phase_paid(self) -> bool:
        """Whether the phase that ended improved the monitored score or the validation loss; said on screen."""
        before, now = self.state.phase_score, self.state.best_score
        loss_before, loss = self.state.phase_loss, self.state.val_loss
        if before is None or now is None or loss_before is None or loss is None:
            return True
        paid = now != before or loss < loss_before
        console.note(
            f"{_what_learns(self.phase.freeze)}: best {self.recipe.monitor} {before:.4f} to {now:.4f}, "
            f"val_loss {loss_before:.4f} to {loss:.4f}" + ("" if paid else ": nothing more is thawed")
        )
        return paid

    def _take_weights(self, sections: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.network.load_state_dict(sections["network"])
        if self.ema is not None:
            for name, value in sections["ema"].items():
                self.ema.average[name].copy_(value)

    def _read_what_is_frozen(self) -> None:
        """Features of the phase's frozen layers in the place of images, where that pays."""
        if self.cached_phase != self.state.phase:
            start, end = [0.0, *self.phase_ends][self.state.phase : self.state.phase + 2]
            epochs = _GUESSED_EPOCHS if self.deadline is not None else round((end - start) * self.recipe.epochs)
            self.cached = self.make_cached(self.phase.freeze, epochs)
            self.cached_phase = self.state.phase

    def _run_progress(self) -> float:
        """Share of the whole run that is done: by the clock where there is a deadline, else by steps."""
        if self.deadline is not None:
            budget = self.deadline - self._reserve() - self.started
            return (time.perf_counter() - self.started) / max(budget, 1e-9)
        per_epoch = max(1, len(self.batches))
        return (self.state.epoch + self.state.batches / per_epoch) / self.recipe.epochs

    def _progress(self) -> float:
        """Share of the present phase that is done; each phase has a whole schedule."""
        start, end = [0.0, *self.phase_ends][self.state.phase : self.state.phase + 2]
        return (self._run_progress() - start) / max(end - start, 1e-9)

    def _warmup(self) -> float:
        epochs = self.recipe.schedule.warmup_epochs
        if self.deadline is not None:  # how many epochs there will be is not known: a tenth at most
            return min(0.1, epochs / 20)
        start, end = [0.0, *self.phase_ends][self.state.phase : self.state.phase + 2]
        return min(0.5, epochs / max(self.recipe.epochs * (end - start), 1e-9))

    def _phase_ends(self) -> list[float]:
        """Shares of the run at which its phases end: at ends of epochs, unless the clock decides."""
        ends = list(itertools.accumulate(phase.share for phase in self.phases))
        if self.deadline is None:
            ends = [min(1.0, max(number, round(end * self.recipe.epochs)) / self.recipe.epochs)
                    for number, end in enumerate(ends, start=1)]  # fmt: skip
        return [*ends[:-1], 1.0]

    def _reserve(self) -> float:
        """Seconds to keep for the last validation, the final scores and for writing."""
        seen = self.state.images
        guessed = (time.perf_counter() - self.started) / seen / 3 if seen else 0.0  # a step is three passes
        return self.afterwards(self.seconds_an_item or min(guessed, 0.1))

    def _is_late(self) -> bool:
        return self.deadline is not None and time.perf_counter() >= self.deadline - self._reserve()

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
        self.seconds_an_item = (time.perf_counter() - started) / max(1.0, scores.pop("n"))
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
        improved = best is None or sign * (score - best) > self.recipe.early_stopping.min_delta
        if improved:
            self.state.best_score, self.state.best_epoch, self.state.stale_epochs = score, self.state.epoch - 1, 0
        else:
            self.state.stale_epochs += 1
        return improved

    def _save(self, improved: bool) -> None:
        self.state.tensors = {"network": dict(self.network.state_dict()), "optimizer": self.optimizer.state()}
        if self.ema is not None:
            self.state.tensors["ema"] = self.ema.average
        seconds = self.state.seconds
        self.state.seconds = seconds + time.perf_counter() - self.started
        path = checkpoint.write_checkpoint(self._checkpoints, self.state)
        self.state.seconds = seconds
        if improved:
            self.best_path = path
        checkpoint.prune(self._checkpoints, self.best_path)

    def _best_weights(self) -> dict[str, Tensor]:
        section = "network" if self.ema is None else "ema"
        if self.best_path is not None:
            return checkpoint.read_tensors(self.best_path, section)[section]
        weights = self.network.state_dict() if self.ema is None else self.ema.average
        return {name: value.detach().cpu().clone() for name, value in weights.items()}

    def _seed_torch(self, batch: TrainingBatch) -> None:
        """What torch draws itself (dropout, drop path) depends on the seed and the step, not on the past."""
        if self.network.spec.dropout or self.network.spec.drop_path:
            torch.manual_seed(torch_seed(self.recipe.seed, "dropout", batch.place.step))

    def _stop_for(self, value: float, batch: TrainingBatch) -> None:
        names = ", ".join(item.id for item in batch.items[:5])
        raise UserError(
            f"the loss became {value} at step {self.state.step}, epoch {self.state.epoch + 1}",
            where=f"items {names}, ... ({len(batch.items)} in the batch)",
            fix="lower the learning rate (--lr), clip gradients (--set optimizer.clip_norm=1), or use "
            "--precision fp32; the last good checkpoint is kept",
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @property
    def _format(self) -> torch.memory_format:
        return torch.channels_last if self.recipe.memory_format == "channels-last" else torch.contiguous_format

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def _truncate_metrics(self) -> None:
        """The checkpoint is the only truth: lines of later epochs go."""
        for name in ("metrics.jsonl", "timings.jsonl"):
            path = self.folder / name
            if path.exists():
                lines = [
                    line for line in path.read_text().splitlines() if json.loads(line)["epoch"] <= self.state.epoch
                ]
                write_text(path, "".join(f"{line}\n" for line in lines))

    def _say(self, record: Mapping[str, Any], timing: Mapping[str, Any], improved: bool) -> None:
        of = "" if self.deadline is not None else f"/{self.recipe.epochs}"
        text = f"epoch {record['epoch']}{of}  loss {record['train_loss']:.4f}"
        if "val_accuracy" in record:
            text += f"  val loss {record['val_loss']:.4f}  val accuracy {record['val_accuracy']:.2%}"
        text += f"  {timing['images_per_second']:.0f} images/s  {timing['seconds']:.1f} s"
        console.note(text + ("  best" if improved else ""))


class _Swapped(AbstractContextManager[None]):
    """A network with other weights for a while."""

    def __init__(self, network: ResNet, weights: Mapping[str, Tensor]) -> None:
        self.network, self.weights = network, weights

    def __enter__(self) -> None:
        self.kept = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.weights)

    def __exit__(self, *_error: object) -> None:
        self.network.load_state_dict(self.kept)


def _what_learns(freeze: str | int) -> str:
    """What a policy leaves to learn, in words."""
    if freeze == "none":
        return "all layers learn"
    if freeze == "all":
        return "the head learns"
    return f"the head and the stages above {freeze} learn"


def _ends_epoch(path: Path, best_epoch: int) -> bool:
    return path.name.startswith(f"epoch-{best_epoch + 1:05d}-")


def _append(path: Path, record: Mapping[str, Any]) -> None:
    lines = path.read_text() if path.exists() else ""
    write_text(path, lines + json.dumps(record) + "\n")


def _memory_mib() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
