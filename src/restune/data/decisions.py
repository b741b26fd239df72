"""Decisions on single items: left out by check.csv (--exclude), kept, relabelled or dropped by decisions.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from restune.core.console import note, warn
from restune.core.errors import UserError, did_you_mean, shorten
from restune.core.files import user_path
from restune.data.audit.findings import read_findings
from restune.data.by_id import RowsById
from restune.data.class_names import clean_name
from restune.data.dataset import Dataset
from restune.data.items import Item, Rows, targets_of

DECISIONS = ("keep", "relabel", "drop")
_OF_OTHER_DATA = ("val:", "test:")
"""Prefixes of items of data named by ``--val`` or ``--test`` of a check; decisions do not apply to them."""
_COLUMNS = ("item", "decision", "label")


@dataclass(frozen=True)
class Decisions:
    """What is to be done with items, by their ids.

    Args:
        dropped: the reason for each item that is left out.
        relabelled: the new label of each item that gets one.
        kept: items that are kept, whatever check.csv suggests.
        source: the file that it was read from.

    >>> table = folder / "decisions.csv"
    >>> _ = table.write_text("item,decision,label\\nred/0.png,drop,\\nred/1.png,relabel,blue\\n")
    >>> read_decisions(table).relabelled
    {'red/1.png': 'blue'}
    """

    dropped: Mapping[str, str] = field(default_factory=dict)
    relabelled: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    source: str = ""

    def items(self) -> list[str]:
        """Return the ids of all items that are decided on, in order."""
        return list(dict.fromkeys((*self.dropped, *self.relabelled, *sorted(self.kept))))


def read_decisions(path: str | Path) -> Decisions:
    """Read decisions.csv: the columns item, decision (keep, relabel or drop) and label (the new one of relabel).

    Raises UserError for other columns or values, and for two different decisions on one item.
    """
    file = user_path(path)
    made: dict[str, tuple[str, str]] = {}
    for line, (item, decision, label) in _rows(file):
        found = decision.strip().lower(), clean_name(label)
        where = f"{file}, line {line}"
        if found[0] not in DECISIONS:
            hint = did_you_mean(decision, DECISIONS) or f"use one of {', '.join(DECISIONS)}"
            raise UserError(f"unknown decision {decision!r}", where=where, fix=hint)
        if found[0] == "relabel" and not found[1]:
            raise UserError("a relabelled item needs a label", where=where, fix="write the class in column label")
        if made.setdefault(item, found) != found:
            raise UserError(f"there are two different decisions on {item}", where=where, fix="remove one of them")
    return Decisions(
        dropped={item: f"dropped by {file.name}" for item, (what, _) in made.items() if what == "drop"},
        relabelled={item: label for item, (what, label) in made.items() if what == "relabel"},
        kept=frozenset(item for item, (what, _) in made.items() if what == "keep"),
        source=file.name,
    )


def read_exclusions(path: str | Path) -> Decisions:
    """Read check.csv: every item with a suggestion that begins with ``drop`` is left out; other rows have no effect.

    Raises UserError for other columns.
    """
    file = user_path(path)
    dropped: dict[str, str] = {}
    for one in read_findings(file):
        if one.item and one.action == "drop":
            dropped.setdefault(one.item, f"dropped by {file.name}: {one.finding}")
    return Decisions(dropped=dropped, source=file.name)


def decided(dataset: Dataset, exclude: str | Path | None, decisions: str | Path | None) -> Dataset:
    """Return the data without dropped items and with the labels that were decided on.

    Decisions win over `exclude`: a kept or relabelled item is not left out. Ids that the data does not have are warned
    of. A class whose items are all dropped or relabelled is removed.

    Args:
        exclude: a check.csv.
        decisions: a decisions.csv.

    Raises UserError for files that cannot be read, labels that are not classes, and data without items left.
    """
    tables = [read_exclusions(exclude)] if exclude is not None else []
    tables += [read_decisions(decisions)] if decisions is not None else []
    if not tables:
        return dataset
    rows = RowsById(dataset.items)
    dropped: dict[str, str] = {}
    relabelled: dict[str, str] = {}
    for table in tables:
        _warn_of_unknown(table, rows)
        for item in (*table.kept, *table.relabelled):
            dropped.pop(item, None)
        dropped |= {item: reason for item, reason in table.dropped.items() if rows.row(item) >= 0}
        relabelled |= {item: label for item, label in table.relabelled.items() if rows.row(item) >= 0}
    note(f"{len(dropped):,} items left out and {len(relabelled):,} relabelled by {_named(tables)}")
    changed = _relabelled(dataset, relabelled, rows, tables[-1].source)
    is_kept = np.ones(len(dataset), bool)
    is_kept[[rows.row(item) for item in dropped]] = False
    if not is_kept.any():
        raise UserError("all items of the data are left out", where=_named(tables), fix="keep some of them")
    if dropped:
        changed = changed.take(np.flatnonzero(is_kept))
    return replace(_without_empty_classes(changed, dataset), left_out=dropped)


def _named(tables: Sequence[Decisions]) -> str:
    return ", ".join(table.source for table in tables)


def _warn_of_unknown(table: Decisions, rows: RowsById) -> None:
    """Warn of decisions on items that the data does not have."""
    named = table.items()
    unknown = [item for item in named if rows.row(item) < 0 and not item.startswith(_OF_OTHER_DATA)]
    if unknown:
        warn(
            f"{len(unknown):,} of the {len(named):,} items in {table.source} are not in the data: {shorten(unknown, 3)}"
        )


def _relabelled(dataset: Dataset, labels: Mapping[str, str], rows: RowsById, source: str) -> Dataset:
    """Return the data with other targets, and a note on each of these items."""
    if not labels:
        return dataset
    if dataset.task != "single-label":
        raise UserError(
            f"items of {dataset.task} data are kept or dropped, not relabelled",
            where=source,
            fix="correct their labels in the data, and leave out the rows that relabel",
        )
    index = {clean_name(name): place for place, name in enumerate(dataset.classes)}
    for item, label in labels.items():
        if label not in index:
            raise UserError(
                f"{label!r} is not a class of the data",
                where=f"{source}, {item}",
                fix=did_you_mean(label, dataset.classes) or f"use one of {shorten(dataset.classes)}",
            )
    targets = targets_of(dataset.items).copy()
    notes = {}
    for item, label in labels.items():
        row = rows.row(item)
        before = dataset.classes[targets[row]] if targets[row] >= 0 else ""
        notes[item] = f"relabelled by {source}: was {before!r}"
        targets[row] = index[label]
    return replace(dataset, items=_with_targets(dataset.items, targets), notes=notes)


def _with_targets(items: Sequence[Item], targets: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Sequence[Item]:
    if not isinstance(items, Rows):
        return tuple(replace(item, target=target) for item, target in zip(items, targets.tolist(), strict=True))
    if items.chosen is None:
        return replace(items, targets=targets)
    whole = items.targets.copy()
    whole[items.chosen] = targets
    return replace(items, targets=whole)


def _without_empty_classes(changed: Dataset, before: Dataset) -> Dataset:
    """Return the data without the classes that had items and have none any more."""
    counts, original = changed.class_counts(), before.class_counts()
    gone = [name for name in changed.classes if original[name] and not counts[name]]
    if not gone:
        return changed
    left = tuple(name for name in changed.classes if name not in gone)
    if len(left) < 2:
        raise UserError(f"only one class is left: {shorten(left)}", where=changed.source, fix="keep items of others")
    note(f"classes without items left: {shorten(map(repr, gone))}")
    place = {name: position for position, name in enumerate(left)}
    return changed.renumbered([place.get(name, -1) for name in changed.classes], left)


def _rows(file: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line number and fields of each row of decisions.csv. Raises UserError for other columns."""
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            rows = csv.reader(lines)
            header = tuple(name.strip() for name in next(rows, ()))
            if header != _COLUMNS:
                raise UserError(
                    f"this is not a table of decisions: its columns are {shorten(header) or 'missing'}",
                    where=str(file),
                    fix=f"the columns are {','.join(_COLUMNS)}; check.html of restune check saves such a table",
                )
            for row in rows:
                if len(row) == len(_COLUMNS):
                    yield rows.line_num, tuple(row)
                elif any(row):
                    raise UserError(
                        f"this row has {len(row)} fields, not {len(_COLUMNS)}",
                        where=f"{file}, line {rows.line_num}",
                        fix="put fields with commas in double quotes",
                    )
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"the table of decisions cannot be read: {reason}", where=str(file), fix="check the path"
        ) from error
