"""Compare runs from their saved files: scores, differences, settings that differ. Seeds of one recipe are one group."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.evaluation.compare import compare
from restune.evaluation.evaluation import Evaluation
from restune.evaluation.unpaired import difference_of_means, difference_of_proportions
from restune.reporting.run_files import RunFiles

_UNSHOWN = frozenset({"seed"})


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs of one recipe on one data set, which differ in their seed only; often a single run.

    Args:
        name: of the run, or of the folder that holds the seeds.
    """

    name: str
    runs: tuple[RunFiles, ...] = field(repr=False)

    @property
    def first(self) -> RunFiles:
        """One of the runs, for what they have in common."""
        return self.runs[0]

    @property
    def is_single(self) -> bool:
        """Whether there is one run only."""
        return len(self.runs) == 1

    def scores(self, split: str) -> list[Evaluation]:
        """Return the evaluations of a split, one per run."""
        return [run.scores[split] for run in self.runs]

    def values(self, split: str, name: str) -> list[float]:
        """Return a score of each run."""
        return [float(getattr(score, name)) for score in self.scores(split)]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The difference in accuracy of two groups.

    Args:
        this, other: names of the groups.
        difference: of `this` minus `other`.
        interval: its 95% interval; None for a single run against seeds.
        how: ``paired`` (the same items), ``unpaired`` (other items), ``seeds`` (means over seeds).
        n: number of common items if paired.
        p: of McNemar's test (mid-p) if paired.
        only_this, only_other: number of items that only one predicts correctly, if paired.
    """

    this: str
    other: str
    difference: float
    interval: tuple[float, float] | None
    how: str
    n: int | None = None
    p: float | None = None
    only_this: int | None = None
    only_other: int | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    def to_dict(self) -> dict[str, Any]:
        """Return what is known."""
        content = {**vars(self), "interval": None if self.interval is None else list(self.interval)}
        return {name: value for name, value in content.items() if value is not None or name == "interval"}


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Groups of runs, compared with the first one.

    Args:
        split: the split whose scores are compared.
    """

    groups: tuple[Group, ...]
    split: str

    @cached_property
    def gaps(self) -> list[Gap]:
        """The difference of every other group from the first."""
        return [_gap(group, self.groups[0], self.split) for group in self.groups[1:]]

    @cached_property
    def settings(self) -> dict[str, list[Any]]:
        """The settings that differ, with each group's value, by dotted key."""
        keys = dict.fromkeys(key for group in self.groups for key in group.first.settings)
        found = {key: [group.first.settings.get(key) for group in self.groups] for key in keys if key not in _UNSHOWN}
        return {key: values for key, values in found.items() if any(value != values[0] for value in values)}

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune report RUN RUN --json`` prints of the comparison."""
        return {
            "split": self.split,
            "groups": [_group_dict(group, self.split) for group in self.groups],
            "differences": [gap.to_dict() for gap in self.gaps],
            "settings": self.settings,
        }


def compare_runs(runs: Sequence[tuple[str, RunFiles]]) -> RunComparison:
    """Compare finished runs. Raises UserError where they have no held-out split in common.

    Args:
        runs: each with the name of its group; runs that differ in their seed only are joined in any case.
    """
    other = next((run for _, run in runs if run.task != "single-label"), None)
    if other is not None:
        raise UserError(
            f"runs of the task {other.task} are not compared",
            where=str(other.folder),
            fix="draw the report of each run, or compare runs of single-label classification",
        )
    groups = tuple(_grouped(runs))
    split = next((name for name in ("test", "val") if all(name in run.scores for _, run in runs)), None)
    if split is None:
        raise UserError(
            "these runs do not have scores of the same split",
            where=" ".join(str(run.folder) for _, run in runs),
            fix="compare runs that all have test items, or all validation items",
        )
    return RunComparison(groups=groups, split=split)


def _grouped(runs: Sequence[tuple[str, RunFiles]]) -> list[Group]:
    members: dict[tuple[Any, ...], list[tuple[str, RunFiles]]] = {}
    for name, run in runs:
        settings = {key: value for key, value in run.settings.items() if key not in _UNSHOWN}
        members.setdefault((run.result["verb"], run.data, repr(settings)), []).append((name, run))
    return [Group(name=_name(found), runs=tuple(run for _, run in found)) for found in members.values()]


def _name(members: Sequence[tuple[str, RunFiles]]) -> str:
    """Return the name that all members have; of other seeds all their names."""
    names = list(dict.fromkeys(name for name, _ in members))
    return ", ".join(names)


def _gap(this: Group, other: Group, split: str) -> Gap:
    if not (this.is_single and other.is_single):
        values, others = this.values(split, "accuracy"), other.values(split, "accuracy")
        found = difference_of_means(values, others)
        difference = statistics.fmean(values) - statistics.fmean(others)
        interval = None if found is None else found[1:]
        return Gap(this=this.name, other=other.name, difference=difference, interval=interval, how="seeds")
    one, two = this.first.scores[split], other.first.scores[split]
    if _has_common_items(this.first, other.first, one, two):
        paired = compare(one, two)
        return Gap(
            this=this.name, other=other.name, difference=paired.accuracy.difference, interval=paired.accuracy.interval,
            how="paired", n=paired.n, p=paired.p_mid, only_this=len(paired.only_this),
            only_other=len(paired.only_other),
        )  # fmt: skip
    difference, low, high = difference_of_proportions(one.correct, one.n, two.correct, two.n)
    return Gap(this=this.name, other=other.name, difference=difference, interval=(low, high), how="unpaired")


def _has_common_items(this: RunFiles, other: RunFiles, one: Evaluation, two: Evaluation) -> bool:
    """Return whether both scored some of the same items: equal ids mean that only for equal data."""
    if one.classes != two.classes:
        return False
    if one.fingerprint and one.fingerprint == two.fingerprint:
        return True
    is_same_data = _place(this) == _place(other)
    places = dict(zip(two.ids, two.targets.tolist(), strict=True))
    common = [(name, target) for name, target in zip(one.ids, one.targets.tolist(), strict=True) if name in places]
    return is_same_data and bool(common) and all(places[name] == target for name, target in common)


def _place(run: RunFiles) -> str:
    return str(run.command.get("absolute") or run.data)


def _group_dict(group: Group, split: str) -> dict[str, Any]:
    scores = group.scores(split)
    content: dict[str, Any] = {
        "name": group.name,
        "model": group.first.result["model"],
        "data": group.first.data,
        "runs": [str(run.folder) for run in group.runs],
        "seeds": [run.seed for run in group.runs],
        "n": [score.n for score in scores],
    }
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        values = group.values(split, name)
        content[name] = {"mean": statistics.fmean(values), "values": values}
        if len(values) > 1:
            content[name]["std"] = statistics.stdev(values)
    if group.is_single:
        content["interval"] = list(scores[0].interval)
    return content


def run_folders(folder: Path) -> list[Path]:
    """Return the folder, or those of the seeds in it."""
    if (folder / "result.json").exists() or not (folder / "seeds.json").exists():
        return [folder]
    return sorted((path.parent for path in folder.glob("seed-*/result.json")), key=lambda path: (len(path.name), path))
