"""search: hyper-parameters chosen on validation items, then one run with the best."""

from __future__ import annotations

import itertools
import json
import time as clock
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restune.core.console import command_started, note
from restune.core.errors import UserError
from restune.core.files import user_path, write_text
from restune.data.dataset import DataOptions, Dataset
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset
from restune.evaluation.compare import Difference, paired_difference
from restune.reporting.search_page import search_page
from restune.runs.folder import RunFolder, removed_unless_begun, run_folder
from restune.runs.request import Request
from restune.runs.run import Run, run
from restune.runs.weights_choice import AUTO, candidates
from restune.training.recipe import parse_duration
from restune.tuning.space import Choice, Space, check_space, default_space, read_space
from restune.tuning.study import (
    Budget,
    TrialRecord,
    default_storage,
    finished,
    import_optuna,
    importances,
    open_study,
    records,
    run_trials,
    running,
    share_held_out,
)
from restune.tuning.trials import Trials, open_trials

TRIALS = 30
"""Trials where neither their number nor a time is named."""
_REFIT_SHARE = 0.25
"""Share of a time budget that is kept for the final run."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished search.

    Args:
        out: its folder: study.json, search.html, study.db, and the final run in ``best``.
        monitor: the metric that trials were compared by.
        trials: all that ended, in order.
        best: the trial with the best score.
        default: the trial with the recipe's own settings, clipped to the space; None where it did not end.
        gain: accuracy of the best trial less that of `default` on validation items that chose nothing, with the 95%
            paired bootstrap interval; None without such items.
        held_out: number of these items.
        importances: share of the scores' variance that each setting explains.
        run: the final run with the best settings; None where another worker made it.

    >>> found = restune.search(
    ...     photos, weights=run_folder, freeze="all", trials=2, space={"class_weights": Choice(("none", "balanced"))},
    ...     out=folder / "study",
    ... )
    >>> found.best.score, sorted(found.to_dict()["counts"])
    (1.0, ['complete', 'failed', 'pruned'])
    """

    out: Path
    monitor: str
    trials: tuple[TrialRecord, ...] = field(repr=False)
    best: TrialRecord
    default: TrialRecord | None = field(repr=False)
    gain: Difference | None = None
    held_out: int = 0
    importances: dict[str, float] = field(repr=False)
    run: Run | None

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune search --json`` prints, and study.json holds."""
        counts = {state: sum(one.state == state for one in self.trials) for state in ("complete", "pruned", "failed")}
        return {
            "out": str(self.out),
            "monitor": self.monitor,
            "counts": counts,
            "best": self.best.to_dict(),
            "default": None if self.default is None else self.default.to_dict(),
            "gain": None if self.gain is None else {**self.gain.to_dict(), "n": self.held_out},
            "importances": self.importances,
            "trials": [one.to_dict() for one in self.trials],
            "run": None if self.run is None else {"out": str(self.run.out), "val": self.run.result.get("val"),
                                                  "test": self.run.result.get("test")},
        }  # fmt: skip


def search(
    data: Any,
    *,
    verb: str | None = None,
    trials: int | None = None,
    time: str | float | None = None,
    space: str | Path | Space | None = None,
    storage: str | None = None,
    study: str | None = None,
    folds: int = 1,
    held_out: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    recipe: str | Path | None = None,
    data_options: DataOptions | None = None,
    set: dict[str, Any] | None = None,
    **options: Any,
) -> Study:
    """Choose settings of a recipe on validation items, by Optuna's tree-structured Parzen estimator.

    Args:
        data, data_options, recipe, set, options: as `restune.train` and `restune.finetune`; shared by all trials.
        verb: ``train`` or ``finetune``; by default the latter where `weights` or `freeze` are named.
        trials: number of trials, 30 by default; of all workers, where several share a study.
        time: a budget such as ``"30m"``, the final run included.
        space: a YAML file that maps settings to ranges or choices, or a mapping; by default one that suits the verb.
        storage: address of a database that several workers share; by default a file in the study's folder.
        study: name of the study in the storage; by default that of the folder.
        folds: score each trial by cross-validation over training and validation items, for small data; 1: on the
            validation items alone.
        held_out: share of the validation items that no trial is scored on, for the comparison of the best with the
            recipe's own settings; by default half of at least 100 items; 0: none.
        out: the study's folder; by default a new one, ``runs/search-NNN``.
        resume: go on with the study in `out`.

    Trials that fall behind are stopped early (successive halving). All share splits, decoded items and the feature
    cache; none reads a test item. The best settings are then used for one run, which is scored once on the test items.
    Raises UserError.

    >>> found = restune.search(
    ...     photos, weights=run_folder, freeze="all", trials=2, space={"label_smoothing": Choice((0.0, 0.1))},
    ...     out=folder / "search",
    ... )
    >>> len(found.trials), found.run.model.classes
    (2, ('blue', 'red'))
    """
    import_optuna()
    if folds < 1:
        raise UserError("a cross-validation has at least two folds", where="--folds", fix="5 are usual")
    if trials is not None and trials < 1:
        raise UserError("a search needs at least one trial", where="--trials")
    chosen_verb = _verb(verb, options)
    if options.get("weights") == AUTO:  # which to take is a setting of the space
        options["weights"] = None
    seconds = None if time is None else parse_duration(time)
    started = command_started.get() or clock.perf_counter()
    place = _folder(out, resume=resume)
    with removed_unless_begun(place):
        dataset = open_dataset(data, data_options)
        request = Request(chosen_verb, recipe, _with_weights(options, chosen_verb, dataset), set or {})
        opened = open_trials(
            data, request, data_options, place.path, opened=lambda _data, _options: dataset, folds=folds,
            share=held_out,
        )  # fmt: skip
        used = _space(space, opened, chosen_verb, [] if options.get("weights") is not None else _at_hand(opened))
        made = open_study(
            study or place.path.resolve().name,
            storage or default_storage(place.path),
            opened.direction,
            opened.recipe.seed if storage is None else None,
            None if opened.recipe.fits_head else opened.recipe.epochs,
            folds,
        )
        share_held_out(made, len(opened.held_out or ()))
        write_text(place.path / "space.json", json.dumps({key: _plain(one) for key, one in used.items()}) + "\n")
    deadline = None if seconds is None else started + seconds * (1 - _REFIT_SHARE)
    count = trials if trials is not None else (None if seconds is not None else TRIALS)
    kept = len(opened.held_out or ())
    choosing = len(opened.splits.val or ()) - kept
    note(f"search over {', '.join(used)} by {opened.monitor}; {choosing} validation items choose, {kept} are held out")
    run_trials(made, opened, used, Budget(trials=count, deadline=deadline))
    ended = records(made)
    best = _best(ended, opened.direction)
    default = ended[0] if ended and ended[0].number == 0 and ended[0].score is not None else None
    result = Study(
        out=place.path,
        monitor=opened.monitor,
        trials=tuple(ended),
        best=best,
        default=default,
        gain=_gain(best, default, kept, folds),
        held_out=kept,
        importances=importances(made),
        run=_final_run(made, best, data, dataset, request, data_options, place.path),
    )
    write_text(place.path / "study.json", json.dumps(result.to_dict(), ensure_ascii=False, indent=1) + "\n")
    write_text(place.path / "search.html", search_page(result.to_dict()))
    return result


def _final_run(
    study: Any, best: TrialRecord, data: Any, dataset: Dataset, request: Request, options: DataOptions | None, out: Path
) -> Run | None:
    """Make one run with the best settings; None where other workers are still at trials, or have made it."""
    folder = None if running(study) else _claimed(study, out)
    if folder is None:
        return None
    note(f"the best of {len(finished(study))} trials is number {best.number}: one run with its settings follows")
    with_effect = request.without_idle(
        {**request.options, **request.changes, **best.settings}, kind_of(dataset.kind), dataset.form
    )
    named = {key: value for key, value in with_effect.items() if key in request.options and key not in best.settings}
    changes = {key: value for key, value in with_effect.items() if key not in named}
    last = Request(request.verb, request.recipe, named, changes)
    return run(data, last, folder, options, resume=folder.exists(), opened=lambda _data, _options: dataset)


def _verb(verb: str | None, options: dict[str, Any]) -> str:
    if verb not in (None, "train", "finetune"):
        raise UserError(f"unknown verb {verb!r}", where="--verb", fix="use train or finetune")
    if verb is not None:
        return verb
    return "finetune" if options.get("weights") is not None or options.get("freeze") is not None else "train"


def _with_weights(options: dict[str, Any], verb: str, dataset: Dataset) -> dict[str, Any]:
    """Return the options; where several weights are at hand and none is named, trials begin with the first."""
    if verb == "train" or options.get("weights") is not None:
        return options
    first = next(iter(candidates(kind_of(dataset.kind), options.get("model"))), None)
    return options if first is None else {**options, "weights": first}


def _at_hand(trials: Trials) -> list[str]:
    return list(dict.fromkeys(candidates(trials.data.kind, None)))


def _space(space: Any, trials: Trials, verb: str, weights: list[str]) -> Space:
    if space is None:
        return default_space(trials.recipe, verb, weights, trials.side)
    if isinstance(space, str | Path):
        return read_space(user_path(space), trials.recipe)
    check_space(space, trials.recipe, "space=")
    return dict(space)


def _folder(out: str | Path | None, *, resume: bool) -> RunFolder:
    place = run_folder("search", out, resume=resume)
    if resume and not place.was_empty and not (place.path / "space.json").exists():
        raise UserError("this folder does not contain a search to resume", where=str(place.path))
    return place


def _best(ended: list[TrialRecord], direction: str) -> TrialRecord:
    scored = [one for one in ended if one.state == "complete" and one.score is not None]
    if not scored:
        raise UserError("no trial ended with a score", where="search", fix="allow more --trials or --time")
    sign = 1 if direction == "maximize" else -1
    return max(scored, key=lambda one: sign * (one.score or 0.0))


def _gain(best: TrialRecord, default: TrialRecord | None, n: int, folds: int) -> Difference | None:
    """Compare the two trials on the held-out items; None where they did not both score the same ones."""
    if default is None or best.hits is None or default.hits is None or not len(best.hits) == len(default.hits) == n:
        return None
    this, other = (np.array(one.hits, np.float64) / folds for one in (best, default))
    return paired_difference(this, other)


def _claimed(study: Any, out: Path) -> Path | None:
    """Return the folder of the final run, if this worker is to make it: the first that asks once all trials have ended,
    or the one whose final run was stopped."""
    count, before = len(finished(study)), study.user_attrs.get("final run")
    if before is not None and before["trials"] == count:
        folder = Path(before["folder"])
        return folder if folder.parent == out.absolute() and not (folder / "result.json").exists() else None
    numbered = (out.absolute() / f"best-{number}" for number in itertools.count(2))
    folder = next(path for path in itertools.chain([out.absolute() / "best"], numbered) if not path.exists())
    study.set_user_attr("final run", {"trials": count, "folder": str(folder)})
    return folder


def _plain(dimension: Any) -> Any:
    return list(dimension.values) if isinstance(dimension, Choice) else vars(dimension)
