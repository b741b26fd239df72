"""Several runs that differ in their seed only, and the mean and standard deviation of their scores."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from restune.core.console import command_started, note
from restune.core.errors import UserError
from restune.core.files import write_text
from restune.core.interrupt import Interrupted
from restune.data.dataset import DataOptions, Dataset
from restune.data.sources import open_dataset
from restune.runs.folder import RunFolder, removed_unless_begun, run_folder
from restune.runs.record import RunRecord, no_data, read_run_record, stored_recipe
from restune.runs.request import Request
from restune.runs.run import Run, run

SEEDS_RESULT = "seeds.json"
_METRICS = {
    "accuracy": ("accuracy", "balanced_accuracy", "macro_f1"),
    "map": ("map", "macro_f1", "micro_f1"),
    "mae": ("mae", "rmse", "r2"),
    "r2": ("r2", "mae", "rmse"),
}
"""The scores that are compared, by the main one."""


@dataclass(frozen=True)
class SeedRuns:
    """Finished runs that differ in their seed only.

    Args:
        out: the folder that holds theirs, ``seed-0`` and so on.
        seeds: of the runs.
        runs: in the order of the seeds.

    >>> made = restune.train(photos, seeds=2, model="resnet8", image_size=16, epochs=1, out=folder / "seeds")
    >>> [run.out.name for run in made.runs], sorted(made.result["val"]["accuracy"])
    (['seed-0', 'seed-1'], ['mean', 'std', 'values'])
    """

    out: Path
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]

    @property
    def result(self) -> dict[str, Any]:
        """Mean, standard deviation (n - 1) and values of each score by split; None for a split without items."""
        scores = {split: [run.result[split] for run in self.runs] for split in ("val", "test")}
        return {"seeds": list(self.seeds), **{split: _spread(values) for split, values in scores.items()}}


def run_seeds(
    data: Any,
    request: dict[str, Any],
    count: int,
    out: str | Path | None,
    data_options: DataOptions | None,
    *,
    resume: bool = False,
    accept_changes: bool = False,
) -> SeedRuns:
    """Perform `count` runs whose seeds are the requested one and those after it.

    The data is opened once. With `resume`, finished runs are kept, stopped ones go on, missing ones start.

    Args:
        request: the arguments of `Request`.

    Raises UserError, Interrupted.
    """
    if count < 2:
        raise UserError(f"{count} seeds do not show a spread", where="--seeds", fix="use 2 or more, or --seed for one")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "several seeds are run one after another, not by several processes",
            where="--seeds",
            fix="start torchrun once per --seed, each with its own --out",
        )
    begun = Request(**request)
    if begun.custom.model is not None:
        raise UserError(
            "a module is trained in place, so several seeds would train the same weights on",
            where="seeds",
            fix="call train once per seed, each with a new module and its own `out`",
        )
    first = begun.seed
    place = run_folder(request["verb"], out, resume=resume)
    with removed_unless_begun(place):
        before = read_run_record(place.path) if resume else None
        seeds = _seeds(before, first if "seed" in _named(request) else None, first, count, place)
        if data is None:
            if before is None:
                raise no_data(place.path, request["verb"])
            data, data_options = before.reopen(place.path), before.read_with(data_options)
        RunRecord.of(request["verb"], data, data_options, seeds).write(place.path)
        runs = _runs(data, request, seeds, place.path, data_options, resume=resume, accept_changes=accept_changes)
    made = SeedRuns(place.path, seeds, runs)
    write_text(place.path / SEEDS_RESULT, json.dumps(made.result, indent=1) + "\n")
    return made


def _runs(
    data: Any,
    request: dict[str, Any],
    seeds: Sequence[int],
    folder: Path,
    data_options: DataOptions | None,
    *,
    resume: bool,
    accept_changes: bool,
) -> tuple[Run, ...]:
    @lru_cache
    def opened() -> Dataset:
        return open_dataset(data, data_options)

    changes = {key: value for key, value in request["changes"].items() if key != "seed"}
    runs = []
    for number, seed in enumerate(seeds):
        note(f"\nseed {seed} ({number + 1} of {len(seeds)})")
        out = folder / f"seed-{seed}"
        options = {**request["options"], "seed": seed}
        asked = {**request, "options": options, "changes": changes, "resumes": stored_recipe(out, resume=resume)}
        token = command_started.set(time.perf_counter() if number else command_started.get())
        try:
            made = run(
                data, Request(**asked), out, data_options, resume=resume, accept_changes=accept_changes,
                opened=lambda _data, _options: opened(),
            )  # fmt: skip
        except Interrupted as error:
            raise Interrupted(error.number, folder) from None
        finally:
            command_started.reset(token)
        runs.append(made)
    return tuple(runs)


def _seeds(before: RunRecord | None, named: int | None, default: int, count: int, place: RunFolder) -> tuple[int, ...]:
    """Return the seeds: from the one that is named, else as the runs to resume began."""
    if place.continues or (before is not None and not before.seeds):
        raise UserError(
            "this folder contains a single run",
            where=str(place.path),
            fix="resume it without --seeds, or name another folder with --out",
        )
    begun = before.seeds[0] if before is not None else None
    first = next(seed for seed in (named, begun, default) if seed is not None)
    return tuple(range(first, first + count))


def _named(request: dict[str, Any]) -> set[str]:
    """Return the settings that are requested."""
    return {key for key, value in {**request["options"], **request["changes"]}.items() if value is not None}


def _spread(scores: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return mean, sample standard deviation and values of each metric; None if a run has no such score."""
    measured = [score for score in scores if score is not None]
    if not measured or len(measured) < len(scores):
        return None
    metrics = _METRICS[measured[0].get("metric", "accuracy")]
    known = [metric for metric in metrics if all(score[metric] is not None for score in measured)]
    values = {metric: [float(score[metric]) for score in measured] for metric in known}
    return {
        metric: {"mean": statistics.fmean(each), "std": statistics.stdev(each), "values": each}
        for metric, each in values.items()
    }
