"""A study: Optuna proposes settings, trials score them on validation items, until the trials or the time are used up.

Several processes and machines may work on one study in a shared storage. Each trial that ends counts once; that of a
worker that died is proposed again (its heartbeat stops).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restune.core.console import note, warn
from restune.core.errors import UserError
from restune.tuning.space import Space, suggested
from restune.tuning.trials import Trials

HEARTBEAT = 10
"""Seconds between two signs of life of a worker."""
_GRACE = 3 * HEARTBEAT
_RETRIES = 3
_MOST_FAILURES = 10
_WAIT = 1.0
_HITS = "held-out hits"
_HELD_OUT = "held-out items"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When a study ends.

    Args:
        trials: number that end, over all workers; None: the time decides.
        deadline: `time.perf_counter()` by which the last trial should have ended; None: the number decides.
    """

    trials: int | None
    deadline: float | None


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial that ended.

    Args:
        number: from 0.
        settings: of the recipe.
        score: the monitored metric; of a stopped trial the last that it reported; None if it failed.
        state: ``complete``, ``pruned`` (stopped early) or ``failed``.
        seconds: from its start to its end.
        hits: of each held-out item, the number of folds whose network predicts it correctly; None where not known.
    """

    number: int
    settings: Mapping[str, Any]
    score: float | None
    state: str
    seconds: float
    hits: tuple[int, ...] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the object in study.json."""
        return {
            "number": self.number, "settings": dict(self.settings), "score": self.score, "state": self.state,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


def open_study(
    name: str, storage: str, direction: str, seed: int | None, epochs: int | None, folds: int = 1
) -> Any:  # fmt: skip
    """Create a study, or go on with the one of this name. Raises UserError for a storage that cannot be used.

    Args:
        storage: an address as SQLAlchemy takes it, such as ``sqlite:///study.db`` or ``postgresql://host/name``.
        direction: ``maximize`` or ``minimize``.
        seed: of the proposals; None where several workers share the study.
        epochs: of a trial, from which it follows when trials that fall behind are stopped; None: never.
        folds: of a trial; several: those whose mean so far is below the median are stopped.
    """
    optuna = import_optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner: Any = optuna.pruners.NopPruner()
    if folds > 1:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
    elif epochs is not None:
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, epochs // 9), reduction_factor=3)

    def opened() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats and grouped proposals are called experimental since 2021
            retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=_RETRIES)
            kept = optuna.storages.RDBStorage(
                _with_driver(storage),
                heartbeat_interval=HEARTBEAT,
                grace_period=_GRACE,
                heartbeat_stale_trial_callback=retry,
            )
            return optuna.create_study(
                study_name=name,
                storage=kept,
                sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
                pruner=pruner,
                load_if_exists=True,
                direction=direction,
            )

    study = _tried(opened)
    if study.direction.name.lower() != direction:
        raise UserError(
            f"the study {name} compares trials by another metric", where="--study",
            fix="name another study, or use the same --monitor",
        )  # fmt: skip
    return study


def _tried(opened: Callable[[], Any]) -> Any:
    """Call a function that opens a study, again if another worker was creating the tables at the same moment."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for pause in (0.5, 1.0, 2.0, None):
        try:
            return opened()
        except Exception as error:  # SQLAlchemy's drivers raise errors of their own
            causes = (error, error.__cause__)
            if pause is not None and any(isinstance(one, IntegrityError | ProgrammingError) for one in causes):
                time.sleep(pause)
                continue
            reason = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
            fix = "check the address; postgresql:// needs pip install 'restune[search]'"
            raise UserError(f"this storage cannot be used: {reason}", where="--storage", fix=fix) from error
    raise AssertionError("the last attempt returns or raises")


def _with_driver(storage: str) -> str:
    """Return the address with the driver that restune's extra brings, where the address names none."""
    return storage.replace("postgresql://", "postgresql+psycopg://", 1)


def import_optuna() -> Any:
    """Import optuna. Raises UserError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError("optuna is not installed", where="search", fix="pip install 'restune[search]'") from None
    return optuna


def run_trials(study: Any, trials: Trials, space: Space, budget: Budget) -> None:
    """Run trials until the budget is used up: those of other workers count, too.

    The first trial of a study has the recipe's own settings, where the space contains them. Raises UserError if trials
    keep failing.
    """
    optuna = import_optuna()
    failures: list[str] = []

    def objective(trial: Any) -> float:
        settings = suggested(trial, space)

        def report(score: float, epoch: int) -> None:
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            ended = trials.fit(settings, report)
        except UserError as error:
            failures.append(error.what)
            raise
        if ended.hits is not None:  # stored only: neither proposals nor the choice of the best read them
            trial.set_user_attr(_HITS, list(ended.hits))
        return ended.score

    _propose_own(study, trials, space)
    longest = 0.0
    while _wants_more(study, budget, longest):
        if _waits_for_others(study, budget):
            time.sleep(_WAIT)
            optuna.storages.fail_stale_trials(study)
            continue
        started, before = time.perf_counter(), len(failures)
        study.optimize(objective, n_trials=1, catch=(UserError,))
        longest = max(longest, time.perf_counter() - started)
        _describe(study, trials.monitor)
        if len(failures) > before:
            warn(f"a trial failed: {failures[-1]}")
        if len(failures) >= _MOST_FAILURES and not finished(study):
            raise UserError(f"{len(failures)} trials failed, the last one: {failures[-1]}", where="--space")


def share_held_out(study: Any, count: int) -> None:
    """Note how many items a study holds out. Raises UserError where it began with another number: other items chose."""
    before = study.user_attrs.get(_HELD_OUT)
    if before is None:
        study.set_user_attr(_HELD_OUT, count)
    elif before != count:
        raise UserError(
            f"this study holds out {before} validation items, not {count}", where="--held-out",
            fix="use the share that it began with, or begin another study",
        )  # fmt: skip


def finished(study: Any) -> list[Any]:
    """Return the trials that ended with a score, or were stopped early."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]


def running(study: Any) -> int:
    """Return the number of trials that workers are at."""
    return sum(trial.state.name == "RUNNING" for trial in study.get_trials(deepcopy=False))


def records(study: Any) -> list[TrialRecord]:
    """Return the trials that ended, in order."""
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return [
        TrialRecord(
            number=trial.number,
            settings=trial.params,
            score=_last_score(trial),
            state=names[trial.state.name],
            seconds=0.0 if trial.duration is None else trial.duration.total_seconds(),
            hits=tuple(trial.user_attrs[_HITS]) if _HITS in trial.user_attrs else None,
        )
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in names
    ]


def importances(study: Any) -> dict[str, float]:
    """Return how much of the scores' variance each setting explains (fANOVA, Hutter et al. 2014); empty if unknown."""
    optuna = import_optuna()
    if len({trial.value for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"}) < 2:
        return {}
    try:
        found: dict[str, float] = optuna.importance.get_param_importances(study)
    except (RuntimeError, ValueError):  # too few trials, or settings that not all of them have
        return {}
    return found


def _propose_own(study: Any, trials: Trials, space: Space) -> None:
    """Propose the recipe's own settings first, clipped to the space."""
    if study.get_trials(deepcopy=False):
        return
    from restune.tuning.space import Range

    own: dict[str, Any] = {}
    content = trials.recipe.model_dump(mode="json")
    for key, dimension in space.items():
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(dimension, Range):
            low, high = dimension.low, dimension.high
            own[key] = min(max(low if value is None else value, low), high)
        else:
            own[key] = value if value in dimension.values else dimension.values[0]
    study.enqueue_trial(own, skip_if_exists=True)


def _wants_more(study: Any, budget: Budget, longest: float) -> bool:
    """Return whether the study is to go on. At least one trial is run."""
    count = len(finished(study))
    if budget.trials is not None and count >= budget.trials:
        return False
    return budget.deadline is None or not count or time.perf_counter() + longest < budget.deadline


def _waits_for_others(study: Any, budget: Budget) -> bool:
    """Return whether the trials that other workers are at would complete the study."""
    others = running(study)
    return budget.trials is not None and others > 0 and len(finished(study)) + others >= budget.trials


def _last_score(trial: Any) -> float | None:
    if trial.value is not None:
        return float(trial.value)
    values = trial.intermediate_values
    return float(values[max(values)]) if values else None


def _describe(study: Any, monitor: str) -> None:
    """Print the trial that ended, and the best so far."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    if not ended:
        return
    last = max(ended, key=lambda trial: trial.datetime_complete)
    score, stopped = _last_score(last), last.state.name == "PRUNED"
    if score is None:
        return
    best = max((trial.value for trial in ended if trial.value is not None), default=None)
    if study.direction.name == "MINIMIZE":
        best = min((trial.value for trial in ended if trial.value is not None), default=None)
    shown = ", ".join(f"{key} {_short(value)}" for key, value in last.params.items())
    state = ", stopped early" if stopped else ""
    best_text = "none yet" if best is None else f"{best:.4f}"
    note(f"trial {last.number}: {monitor} {score:.4f}{state} (best {best_text}); {shown}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def default_storage(folder: Path) -> str:
    """Return the address of the SQLite file in a study's folder."""
    return f"sqlite:///{(folder / 'study.db').absolute()}"
