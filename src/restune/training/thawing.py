"""Gradual unfreezing ("thawing"): the phases of a run, each with its trainable layers, and when the next one begins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from restune.core import console
from restune.core.errors import UserError
from restune.networks.custom import Network
from restune.training.checkpoint import TrainState
from restune.training.feature_batches import FeatureBatches
from restune.training.freeze import apply_freeze, trainable_parameters
from restune.training.optimizer import NamedOptimizer
from restune.training.recipe import Recipe

_GRADUAL_SHARE = 0.25
"""Share of a run in which stages are unfrozen one after another."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run with one set of trainable layers.

    Args:
        freeze: ``all`` (only the head is trainable), ``none``, or K: the stem and stages 1 to K are frozen.
        share: of the run's epochs.
        lr_scale: multiplies the peak learning rate.
    """

    freeze: str | int
    share: float = 1.0
    lr_scale: float = 1.0


def plan_phases(freeze: str | int, stages: int, *, head_is_fitted: bool = True) -> list[Phase]:
    """Plan the phases of a run.

    ``auto`` unfreezes stage after stage from the top, the stem with the last (Howard and Ruder 2018), once the head is
    fitted (Kumar et al. 2022). All layers are trainable in most of the run. Any other policy is a single phase.

    Args:
        freeze: the recipe's policy.
        stages: of the network.
        head_is_fitted: whether the head is fitted before the first phase; if not, the first phase trains the head only.

    Raises:
        UserError: for a stage that the network does not have.
    """
    if freeze == "auto":
        cuts: list[str | int] = [*([] if head_is_fitted else ["all"]), *range(stages - 1, 0, -1)]
        scales = [1.0 if cut == "all" else 0.3 for cut in cuts]
        first = [
            Phase(freeze=cut, share=_GRADUAL_SHARE / len(cuts), lr_scale=scale)
            for cut, scale in zip(cuts, scales, strict=True)
        ]
        return [*first, Phase(freeze="none", share=1.0 if not cuts else 1 - _GRADUAL_SHARE)]
    if isinstance(freeze, int) and not 0 <= freeze <= stages:
        raise UserError(
            f"this network has stages 1 to {stages}",
            where=f"--freeze {freeze}",
            fix="use 0 to freeze the stem only, or all to freeze everything but the head",
        )
    return [Phase(freeze=freeze)]


class Phases:
    """The phases of a run, in order, and the share of the run at which each ends.

    Args:
        phases: at least one.
        epochs: of the run; phases then end at the end of an epoch. None where a time limit decides.
    """

    def __init__(self, phases: Sequence[Phase], epochs: int | None) -> None:
        self.phases = phases
        ends = list(itertools.accumulate(phase.share for phase in phases))
        if epochs is not None:
            ends = [min(1.0, max(number, round(end * epochs)) / epochs) for number, end in enumerate(ends, start=1)]
        self.ends = [*ends[:-1], 1.0]

    def __getitem__(self, index: int) -> Phase:
        return self.phases[index]

    def at(self, run_progress: float, stretch: float = 1.0) -> int:
        """The index of the phase at a share of the run, 0 to 1.

        Args:
            stretch: of a run that was lengthened, its length over the planned one; only the last phase gets longer.
        """
        planned = run_progress * stretch
        return next((i for i, end in enumerate(self.ends) if planned < end - 1e-9), len(self.phases) - 1)

    def span(self, index: int, stretch: float = 1.0) -> tuple[float, float]:
        """The shares of the run at which a phase begins and ends."""
        start, end = [0.0, *self.ends][index : index + 2]
        return start / stretch, 1.0 if index == len(self.phases) - 1 else end / stretch


def enter_phase(network: Network, phase: Phase, recipe: Recipe) -> NamedOptimizer:
    """Make the phase's layers trainable. Returns a new optimiser for them, without momentum."""
    apply_freeze(network, phase.freeze, keep_statistics=recipe.keep_statistics)
    return NamedOptimizer(network, recipe.optimizer, phase.lr_scale, bf16=recipe.precision == "bf16")


@dataclass(frozen=True, kw_only=True)
class PhaseOutcome:
    """Scores before and after a phase.

    Args:
        best_before, best: score of the monitored metric.
        loss_before, loss: validation loss.
    """

    best_before: float
    best: float
    loss_before: float
    loss: float

    @property
    def improved(self) -> bool:
        """Whether the best score or the validation loss improved."""
        return self.best != self.best_before or self.loss < self.loss_before

    def describe(self, phase: Phase, monitor: str, *, has_time_limit: bool) -> str:
        """The outcome in one line, with its consequence."""
        scores = (
            f"{describe_trainable(phase.freeze)}: best {monitor} {self.best_before:.4f} -> {self.best:.4f}, "
            f"val_loss {self.loss_before:.4f} -> {self.loss:.4f}"
        )
        if self.improved:
            return scores
        if has_time_limit:
            return f"{scores}; no improvement, but training continues until the time limit"
        return f"{scores}; no improvement, so no more layers are unfrozen"


def phase_outcome(state: TrainState) -> PhaseOutcome | None:
    """The outcome of the phase being trained; None without a score before and after it, or before its first step."""
    before, best = state.phase_score, state.best_score
    loss_before, loss = state.phase_loss, state.val_loss
    if before is None or best is None or loss_before is None or loss is None or state.step == state.phase_step:
        return None
    return PhaseOutcome(best_before=before, best=best, loss_before=loss_before, loss=loss)


def is_worth_unfreezing(state: TrainState, phase: Phase, monitor: str, *, has_time_limit: bool) -> bool:
    """Whether to go on to the next phase, with a message about the scores of the one that ended.

    It is not worth it after a phase without improvement, except with a time limit: the time left is used in any case,
    since the best weights are selected whatever happens. True where the phase cannot be judged.
    """
    outcome = phase_outcome(state)
    if outcome is None:
        return True
    console.note(outcome.describe(phase, monitor, has_time_limit=has_time_limit))
    return outcome.improved or has_time_limit


def count_views(features: FeatureBatches | None, before: int | None, folder: Path, *, accept_changes: bool) -> int:
    """The number of augmented copies per image whose frozen features are cached; 0 without a cache.

    Args:
        before: that number when the phase began, in a run that is resumed within it; training depends on it.

    Raises:
        UserError: where the number differs from `before`, unless `accept_changes`.
    """
    views = 0 if features is None else len(features.views)
    if before not in (None, views) and not accept_changes:
        raise UserError(
            f"this run cached frozen features of {before} augmented copies per image, and would now cache {views}: "
            "the free disk space or the number of processes has changed",
            where=str(folder),
            fix="restore it, or resume with --accept-changes",
        )
    return views


def describe_unfreezing(network: Network, phase: Phase) -> str:
    """The message when a phase begins: its trainable layers and their number of parameters."""
    count = sum(parameter.numel() for _name, parameter in trainable_parameters(network))
    return f"unfreezing: {describe_trainable(phase.freeze)} ({count:,} parameters)"


def describe_trainable(freeze: str | int) -> str:
    """The trainable layers under a freezing policy, in words."""
    if freeze == "none":
        return "all layers trainable"
    if freeze == "all":
        return "head trainable"
    return f"head and stages above {freeze} trainable"
