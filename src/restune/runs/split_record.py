"""split.json: a run's classes and items at the time of the split, to detect later changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.core.files import written_whole
from restune.data.by_id import Contents, HexDigits
from restune.data.dataset import Dataset, Item, Location, fingerprint_of
from restune.data.items import Ids, locations_of
from restune.data.splits import Splits
from restune.data.string_array import StringArray

SPLIT_RECORD = "split.json"
PREFIXES = ("val:", "test:")
"""Id prefixes of items from separate validation and test data sets."""
_PART = 4096
"""Values of a column that are written at once."""


@dataclass(frozen=True, kw_only=True)
class SplitItems:
    """The items of one split, in order.

    Args:
        ids: as in ``split.csv``.
        targets: indices into the run's classes; of other tasks checksums of the target values.
        signatures: of their locations, such as a file's size.
        contents: 16 hex digits over the content of each; empty if unknown.
    """

    ids: Sequence[str]
    targets: NDArray[np.int32]
    signatures: Sequence[str]
    contents: Sequence[str]

    @classmethod
    def of(cls, data: Dataset, contents: Mapping[str, str]) -> SplitItems:
        """Record the items' current state."""
        return cls(
            ids=Ids(data.items),
            targets=data.target_codes(),
            signatures=StringArray(map(_signature, locations_of(data.items))),
            contents=contents.of(data.items)
            if isinstance(contents, Contents)
            else HexDigits.parsed([contents.get(name, "") for name in data.ids()]),
        )

    def json(self) -> Iterator[str]:
        """Yield the columns as the inside of a JSON object, in parts."""
        columns: tuple[tuple[str, Sequence[Any] | NDArray[np.int32]], ...] = (
            ("ids", self.ids),
            ("targets", self.targets),
            ("signatures", self.signatures),
            ("contents", self.contents),
        )
        for name, column in columns:
            yield f', "{name}": ['
            for start in range(0, len(column), _PART):
                part = column[start : start + _PART]
                values = part.tolist() if isinstance(part, np.ndarray) else list(part)
                yield (", " if start else "") + json.dumps(values)[1:-1]
            yield "]"


@dataclass(frozen=True)
class Change:
    """A change of an item since the split.

    Args:
        split, item: its split and id.
        what: the change, such as ``size was 120, is 96``.
    """

    split: str
    item: str
    what: str

    def __str__(self) -> str:
        return f"{self.item} ({self.split}: {self.what})"


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """The record of a run's data.

    Args:
        kind: of the data.
        classes: in the order of the logits.
        splits: ``train``, and ``val`` and ``test`` if there are any.
        total: number of items in the data, in a split or not.
        task: of the data.
    """

    kind: str
    classes: tuple[str, ...]
    splits: Mapping[str, SplitItems]
    total: int = 0
    task: str = "single-label"

    @classmethod
    def of(cls, splits: Splits, contents: Mapping[str, str], total: int = 0) -> SplitRecord:
        """Record the splits' current state.

        Args:
            contents: 16 hex digits over the content, of items where it is known.
        """
        held = {"train": splits.train, "val": splits.val, "test": splits.test}
        return cls(
            kind=splits.train.kind,
            classes=splits.train.classes,
            splits={name: SplitItems.of(data, contents) for name, data in held.items() if data is not None},
            total=total,
            task=splits.train.task,
        )

    def fingerprint(self, split: str) -> str:
        """Return the `Dataset.fingerprint` of a split."""
        if split not in self._fingerprints:
            items = self.splits[split]
            rows = zip(items.ids, items.targets.tolist(), items.signatures, strict=True)
            self._fingerprints[split] = fingerprint_of(self.kind, self.classes, rows, self.task)
        return self._fingerprints[split]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {}

    def json(self) -> Iterator[str]:
        """Yield the content of split.json, in parts."""
        head = {"schema_version": 1, "kind": self.kind, "classes": self.classes, "total": self.total}
        if self.task != "single-label":
            head["task"] = self.task
        yield json.dumps(head)[:-1] + ', "splits": {'
        for place, (name, items) in enumerate(self.splits.items()):
            yield f'{", " if place else ""}"{name}": {{"fingerprint": "{self.fingerprint(name)}"'
            yield from items.json()
            yield "}"
        yield "}}\n"

    def to_json(self) -> str:
        """Return the content of split.json."""
        return "".join(self.json())

    @classmethod
    def from_json(cls, text: str) -> SplitRecord:
        """Parse the result of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        rest, columns = _without_columns(text)
        content: dict[str, Any] = json.loads(rest)
        if content["schema_version"] != 1:
            raise ValueError(f"schema version {content['schema_version']} is not known; upgrade restune")
        splits = {}
        for name, held in content["splits"].items():
            column = {key: columns[place] if isinstance(place, int) else place for key, place in held.items()}
            splits[name] = SplitItems(
                ids=column["ids"],
                targets=np.array(column["targets"], np.int32),
                signatures=column["signatures"],
                contents=HexDigits.parsed(column["contents"]),
            )
        return cls(
            kind=content["kind"],
            classes=tuple(content["classes"]),
            splits=splits,
            total=content["total"],
            task=content.get("task", "single-label"),
        )

    def changes(self, now: SplitRecord) -> Iterator[Change]:
        """Yield the differences from another record of the same splits, in order."""
        for split, before in self.splits.items():
            after = now.splits.get(split)
            if after is None or not _are_equal(before.ids, after.ids):
                yield Change(split, "split.csv", f"its {split} items are not those of {SPLIT_RECORD}")
                continue
            for row, item in enumerate(before.ids):
                change = self._target_change(int(before.targets[row]), int(after.targets[row]), now)
                if change:
                    yield Change(split, item, change)
                elif before.signatures[row] != after.signatures[row]:
                    yield Change(split, item, _resized(before.signatures[row], after.signatures[row]))
                elif before.contents[row] != after.contents[row] and before.contents[row] and after.contents[row]:
                    yield Change(split, item, "its content is another")

    def _target_change(self, before: int, after: int, now: SplitRecord) -> str:
        """Describe the change of an item's target; empty if there is none."""
        if self.task != "single-label" or now.task != "single-label":
            return "" if before == after and self.task == now.task else "its target values are others"
        names = self.classes[before], now.classes[after]
        return "" if names[0] == names[1] else f"its class was {names[0]!r}, is {names[1]!r}"


def write_split_record(folder: Path, record: SplitRecord) -> None:
    """Write split.json into a run's folder."""
    with (
        written_whole(folder / SPLIT_RECORD) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        file.writelines(record.json())


def read_split_record(folder: Path) -> SplitRecord | None:
    """Read the record in a run's folder; None if there is none. Raises UserError if it is damaged."""
    path = folder / SPLIT_RECORD
    if not path.exists():
        return None
    try:
        return SplitRecord.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"this record of a run's splits cannot be read: {error}", where=str(path)) from error


def reject_changed_data(before: SplitRecord, now: SplitRecord, folder: Path) -> None:
    """Raise UserError if classes or items changed since the run began."""
    if before.task != now.task:
        what = f"this run began with {before.task} data, now they are read as {now.task}"
    elif before.classes != now.classes:
        what = f"the classes of the data changed since this run began: {_changed_classes(before.classes, now.classes)}"
    elif changed := list(before.changes(now)):
        what = f"the data changed since this run began: {shorten(changed, 3)}"
    else:
        return
    raise UserError(what, where=str(folder), fix="undo the change, or resume with --accept-changes")


_COLUMN = re.compile(r'"(ids|targets|signatures|contents)": \[')
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"(, |\])')


def _without_columns(text: str) -> tuple[str, list[Any]]:
    """Return a record's JSON with each column replaced by its index among the columns, and the columns.

    `json` would make an object of every id.
    """
    parts: list[str] = []
    columns: list[Any] = []
    end = 0
    while (begin := _COLUMN.search(text, end)) is not None:
        parts.append(text[end : begin.end() - 1] + str(len(columns)))
        if begin[1] == "targets":
            end = text.index("]", begin.end()) + 1
            columns.append(np.array(json.loads(text[begin.end() - 1 : end]), np.int32))
        else:
            column = StringArray()
            end = _read_strings(text, begin.end(), column)
            columns.append(column)
    return "".join([*parts, text[end:]]), columns


def _read_strings(text: str, start: int, into: StringArray) -> int:
    """Read a JSON array of strings from behind its bracket; return its end. Raises ValueError for anything else."""
    if text[start : start + 1] == "]":
        return start + 1
    end = [start]

    def strings() -> Iterator[str]:
        is_last = False
        while not is_last:
            found = _STRING.match(text, end[0])
            if found is None:
                raise ValueError(f"no text at character {end[0]}")
            end[0], is_last = found.end(), found[2] == "]"
            yield json.loads(f'"{found[1]}"') if "\\" in found[1] else found[1]

    into.add(strings())
    return end[0]


def _are_equal(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and all(map(eq, one, other))


def signature_of(item: Item) -> str:
    """Return the signature of an item's location, also if the file has just vanished."""
    return _signature(item.location)


def _signature(location: Location) -> str:
    try:
        return location.signature()
    except OSError:
        return "missing"


def _resized(before: str, after: str) -> str:
    if after == "missing":
        return "it is gone"
    return f"its size was {before}, is {after}" if before.isdigit() and after.isdigit() else "its content is another"


def _changed_classes(before: tuple[str, ...], now: tuple[str, ...]) -> str:
    added, removed = [name for name in now if name not in before], [name for name in before if name not in now]
    parts = [f"{shorten(map(repr, names))} {verb}" for names, verb in ((added, "added"), (removed, "removed")) if names]
    return "; ".join(parts) or "their order is another"
