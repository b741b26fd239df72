"""split.json: a run's classes and items at the time of the split, to detect later changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restune.core.errors import UserError, shorten
from restune.core.files import write_text
from restune.data.dataset import Dataset, Item, fingerprint_of
from restune.data.splits import Splits

SPLIT_RECORD = "split.json"
PREFIXES = ("val:", "test:")
"""Id prefixes of items from separate validation and test data sets."""


@dataclass(frozen=True, kw_only=True)
class SplitItems:
    """The items of one split, in order.

    Args:
        ids: as in ``split.csv``.
        targets: indices into the run's classes.
        signatures: of their locations, such as a file's size.
        contents: 16 hex digits over the content of each; empty if unknown.
    """

    ids: tuple[str, ...]
    targets: tuple[int, ...]
    signatures: tuple[str, ...]
    contents: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset, contents: Mapping[str, str]) -> SplitItems:
        """Record the items' current state."""
        return cls(
            ids=tuple(data.ids()),
            targets=tuple(item.target for item in data.items),
            signatures=tuple(signature_of(item) for item in data.items),
            contents=tuple(contents.get(name, "") for name in data.ids()),
        )


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
    """

    kind: str
    classes: tuple[str, ...]
    splits: Mapping[str, SplitItems]
    total: int = 0

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
        )

    def fingerprint(self, split: str) -> str:
        """Return the `Dataset.fingerprint` of a split."""
        items = self.splits[split]
        return fingerprint_of(self.kind, self.classes, zip(items.ids, items.targets, items.signatures, strict=True))

    def to_json(self) -> str:
        """Return the content of split.json."""
        splits = {name: {"fingerprint": self.fingerprint(name), **asdict(items)} for name, items in self.splits.items()}
        content = {
            "schema_version": 1,
            "kind": self.kind,
            "classes": self.classes,
            "total": self.total,
            "splits": splits,
        }
        return json.dumps(content) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SplitRecord:
        """Parse the result of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        content: dict[str, Any] = json.loads(text)
        if content["schema_version"] != 1:
            raise ValueError(f"schema version {content['schema_version']} is not known; upgrade restune")
        splits = {}
        for name, columns in content["splits"].items():
            columns.pop("fingerprint")
            splits[name] = SplitItems(**{key: tuple(values) for key, values in columns.items()})
        return cls(kind=content["kind"], classes=tuple(content["classes"]), splits=splits, total=content["total"])

    def changes(self, now: SplitRecord) -> Iterator[Change]:
        """Yield the differences from another record of the same splits, in order."""
        for split, before in self.splits.items():
            after = now.splits.get(split)
            if after is None or after.ids != before.ids:
                yield Change(split, "split.csv", f"its {split} items are not those of {SPLIT_RECORD}")
                continue
            for row, item in enumerate(before.ids):
                names = self.classes[before.targets[row]], now.classes[after.targets[row]]
                if names[0] != names[1]:
                    yield Change(split, item, f"its class was {names[0]!r}, is {names[1]!r}")
                elif before.signatures[row] != after.signatures[row]:
                    yield Change(split, item, _resized(before.signatures[row], after.signatures[row]))
                elif before.contents[row] != after.contents[row] and before.contents[row] and after.contents[row]:
                    yield Change(split, item, "its content is another")


def write_split_record(folder: Path, record: SplitRecord) -> None:
    """Write split.json into a run's folder."""
    write_text(folder / SPLIT_RECORD, record.to_json())


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
    if before.classes != now.classes:
        what = f"the classes of the data changed since this run began: {_changed_classes(before.classes, now.classes)}"
    elif changed := list(before.changes(now)):
        what = f"the data changed since this run began: {shorten(changed, 3)}"
    else:
        return
    raise UserError(what, where=str(folder), fix="undo the change, or resume with --accept-changes")


def signature_of(item: Item) -> str:
    """Return the signature of an item's location, also if the file has just vanished."""
    try:
        return item.location.signature()
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
