"""What a check finds: one `Finding` per fault, the table check.csv, and the report of a whole check."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from restune.core.errors import UserError
from restune.core.files import write_bytes

FINDINGS = (
    *("unreadable", "not-taken", "duplicate", "near-duplicate", "leak", "conflicting-duplicate", "label-error"),
    *("outlier", "blurry", "dark", "light", "flat", "odd-size", "odd-format", "orientation", "small-class"),
    *(
        "imbalance",
        "spurious-property",
        "missing-label",
        "missing-values",
        "saturated",
        "label-twins",
        "mixed-encoding",
    ),
)
"""Names of findings, in the order in which they are listed."""
SEVERITIES = ("serious", "warning", "note")
"""A serious finding makes scores wrong or items useless; a warning should be looked at; a note informs."""
ACTIONS = ("drop", "relabel", "group", "look", "keep")
"""First words of suggestions: leave the item out, give it another label, keep it in one split with its relatives, look
at it, or nothing."""
COLUMNS = ("item", "finding", "severity", "score", "suggestion")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of an item, or of the whole data set.

    Args:
        item: the item's id; of skipped files their pattern (``dog/*.heic``); empty for a finding about the whole set.
        finding: one of `FINDINGS`.
        severity: one of `SEVERITIES`.
        score: the measured value, from 0 to 1; what it measures depends on the finding (docs/check.md).
        suggestion: one of `ACTIONS`, a colon and the details, such as ``drop: same pixels as cat/1.jpg``. After
            ``relabel:`` stands the proposed label alone.
        related: ids of the other items concerned, such as a duplicate's first copy.

    >>> twin = Finding("cat/2.jpg", "duplicate", "warning", 1.0, "drop: same pixels as cat/1.jpg", ("cat/1.jpg",))
    >>> twin.action, twin.details
    ('drop', 'same pixels as cat/1.jpg')
    """

    item: str
    finding: str
    severity: str
    score: float
    suggestion: str
    related: tuple[str, ...] = ()

    @property
    def action(self) -> str:
        """Return the first word of the suggestion."""
        return self.suggestion.partition(":")[0]

    @property
    def details(self) -> str:
        """Return the suggestion without its first word."""
        return self.suggestion.partition(":")[2].strip()


@dataclass(frozen=True)
class Judge:
    """The classifier that judged the labels.

    Args:
        features: what it reads, in words.
        accuracy: share of the items that it had not seen on which it is right.
    """

    features: str
    accuracy: float


@dataclass(frozen=True)
class CheckReport:
    """Everything that a check found.

    Args:
        source: the data, for messages.
        items: number of items.
        findings: in the order of `in_order`.
        out: the folder with check.csv.
        seconds: wall time of the check.
        judge: of the labels; None if they were not judged.

    >>> report = restune.check(photos, out=folder / "checked")
    >>> report.items, report.serious, report.counts.get("unreadable", 0)
    (20, False, 0)
    """

    source: str
    items: int
    findings: tuple[Finding, ...]
    out: Path
    seconds: float = 0.0
    judge: Judge | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of findings by name, in the order of `FINDINGS`, without those that did not occur."""
        counted = Counter(one.finding for one in self.findings)
        return {name: counted[name] for name in FINDINGS if counted[name]}

    @property
    def serious(self) -> bool:
        """Return whether any finding is serious."""
        return any(one.severity == "serious" for one in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"items", "findings": {name: count}, "serious", "out"}``.

        If labels were judged, also ``"labels": {"features", "accuracy"}``.
        """
        judged = {} if self.judge is None else {"labels": asdict(self.judge)}
        found = {"items": self.items, "findings": self.counts, "serious": self.serious, "out": str(self.out)}
        return found | judged


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings: serious ones first, then by name in the order of `FINDINGS`; the order within a name is kept."""
    severity = {name: place for place, name in enumerate(SEVERITIES)}
    kind = {name: place for place, name in enumerate(FINDINGS)}
    return tuple(sorted(findings, key=lambda one: (severity[one.severity], kind[one.finding])))


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write check.csv atomically. Names that are not UTF-8 keep their bytes."""
    rows = [(one.item, one.finding, one.severity, f"{one.score:.4g}", one.suggestion) for one in findings]
    # Before Python 3.13 the csv module does not quote a carriage return, and then reads it as the row's end.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("\r" in "".join(row) for row in rows) else csv.QUOTE_MINIMAL
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows([COLUMNS, *rows])
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_findings(path: Path) -> tuple[Finding, ...]:
    """Read check.csv, without the related items. Raises UserError for a table with other columns or values."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return tuple(_parsed(row, path, number) for number, row in enumerate(_rows(file, path), 2))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read the findings: {reason}", where=str(path), fix="name a check.csv") from error


def _rows(file: Iterable[str], path: Path) -> Iterable[Sequence[str]]:
    rows = csv.reader(file)
    header = tuple(next(rows, ()))
    if header != COLUMNS:
        raise UserError(
            "this is not a table of findings",
            where=str(path),
            fix=f"name a check.csv written by restune check, with the columns {','.join(COLUMNS)}",
        )
    return (row for row in rows if row)


def _parsed(row: Sequence[str], path: Path, number: int) -> Finding:
    try:
        item, finding, severity, score, suggestion = row
        return Finding(item, finding, severity, float(score), suggestion)
    except ValueError as error:
        raise UserError(
            f"this row is not a finding: {','.join(row)[:80]}",
            where=f"{path}, line {number}",
            fix=f"each row has {len(COLUMNS)} fields, the score as a number",
        ) from error
