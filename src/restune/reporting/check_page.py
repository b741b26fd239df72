"""check.html: what a check found, and buttons that build decisions.csv."""

from __future__ import annotations

import hashlib
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from restune.core.language import current_language, translated
from restune.core.version import __version__
from restune.data.audit.findings import FINDINGS, CheckReport, Finding
from restune.data.by_id import RowsById
from restune.data.dataset import Dataset
from restune.data.items import targets_of
from restune.reporting.pages import render
from restune.reporting.phrases import phrases
from restune.reporting.previews import Preview, preview

_MOST_SHOWN = 120
"""Findings of one kind on the page."""
_MOST_BYTES = 3_000_000
"""Characters of previews on the page."""


@dataclass
class _Suspects:
    """Makes each suspect's entry of the page once, and counts the size of the previews."""

    dataset: Dataset
    rows: RowsById
    targets: Sequence[int]
    size: int = 0
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    def _label(self, target: int) -> str:
        """Return the text of a target; empty for an item without a label."""
        if target < 0:
            return ""
        if self.dataset.task == "single-label":
            return self.dataset.classes[target]
        return self.dataset.target_text(target).strip("'")

    def entry(self, item: str) -> dict[str, Any] | None:
        """Return the values that the template shows of an item; None if the data does not have it."""
        row = self.rows.row(item)
        if row < 0:
            return None
        if item not in self.made:
            shown = preview(self.dataset, row) if self.size < _MOST_BYTES else Preview()
            target = int(self.targets[row])
            printable = item.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            self.made[item] = {
                "id": printable,
                "label": self._label(target),
                "preview": shown,
                "decidable": printable == item,
            }
        shown = self.made[item]["preview"]
        self.size += shown.size
        return self.made[item] if self.size < _MOST_BYTES else {**self.made[item], "preview": Preview()}


def check_page(report: CheckReport, dataset: Dataset, *, language: str | None = None) -> str:
    """Return the page of a check: self-contained, with the most serious findings of each kind and a preview of each.

    Args:
        report: what the check found.
        dataset: the data that was checked.
        language: ``en`` or ``zh``; by default the current one.
    """
    language = language or current_language()
    suspects = _Suspects(dataset, RowsById(dataset.items), targets_of(dataset.items).tolist())
    sections = _sections(report.findings, suspects)
    serious = sum(one.severity == "serious" for one in report.findings)
    return render(
        "check.html",
        language=language,
        report=report,
        serious=serious,
        overview=_overview(report.findings, language),
        whole=[(one.finding, one.severity, translated(one.details)) for one in report.findings if not one.item],
        files=[(one.item, translated(one.details)) for one in report.findings if one.finding == "not-taken"],
        sections=sections,
        shown=len(suspects.made),
        judge_features="" if report.judge is None else translated(report.judge.features),
        classes=list(dataset.classes) if dataset.task == "single-label" else [],
        key=_key(report),
        commands=_commands(report),
        version=__version__,
    )


def _sections(findings: Sequence[Finding], suspects: _Suspects) -> list[dict[str, Any]]:
    """Return the findings about single items by name, in their order, each with previews of the most serious."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for one in findings:
        if one.item and one.finding != "not-taken":
            groups[one.finding].append(one)
    sections = []
    for name in sorted(groups, key=_place):
        cards = [card for one in groups[name][:_MOST_SHOWN] if (card := _card(one, suspects)) is not None]
        sections.append({"name": name, "count": len(groups[name]), "cards": cards})
    return sections


def _place(name: str) -> int:
    return FINDINGS.index(name) if name in FINDINGS else len(FINDINGS)


def _card(one: Finding, suspects: _Suspects) -> dict[str, Any] | None:
    """Return one finding's card: its item, and the first related one beside it."""
    own = suspects.entry(one.item)
    if own is None:
        return None
    others = [entry for item in one.related[:1] if (entry := suspects.entry(item)) is not None]
    proposed = one.details if one.action == "relabel" else ""
    return {
        "severity": one.severity,
        "score": f"{one.score:.3f}",
        "details": "" if proposed else translated(one.details),
        "proposed": proposed,
        "items": [own, *others],
    }


def _overview(findings: Sequence[Finding], language: str) -> list[tuple[str, str, int, str]]:
    """Return the rows of the first table: finding, severity, number and meaning."""
    say = phrases(language)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for one in findings:
        counts[one.finding, one.severity] += 1
    return [
        (name, say(f"severity_{severity}"), count, say(f"means_{name}")) for (name, severity), count in counts.items()
    ]


def _key(report: CheckReport) -> str:
    """Return a name under which a browser keeps the decisions on this data."""
    text = f"{report.source}\0{report.items}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _commands(report: CheckReport) -> list[str]:
    """Return the commands to run next."""
    train = ["restune", "train", report.source]
    return [
        shlex.join([*train, "--exclude", str(report.out / "check.csv")]),
        shlex.join([*train, "--decisions", "decisions.csv"]),
        shlex.join(["restune", "check", report.source]),
    ]
