"""The common form of all data: items, ordered classes and a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.data.class_names import clean_name
from restune.data.items import (
    MAX_BYTES,
    SPLITS,
    ArrayLocation,
    FileLocation,
    Item,
    Location,
    Rows,
    ids_of,
    locations_of,
    splits_of,
    taken,
    targets_of,
)
from restune.data.kinds import KINDS
from restune.data.not_taken import NotTaken
from restune.data.targets import target_codes, with_columns

__all__ = [
    "MAX_BYTES",
    "SPLITS",
    "ArrayLocation",
    "DataOptions",
    "Dataset",
    "FileLocation",
    "Item",
    "Location",
    "fingerprint_of",
]


@dataclass(frozen=True)
class Dataset:
    """Items, ordered classes, their source, and the source's files that are not items.

    All later code is independent of the form of the data.

    Args:
        items: in order.
        classes: names; an item's target is an index into them. For other tasks the names of the labels, or of the
            numbers that regression predicts.
        source: for messages.
        kind: the name of its `Kind`.
        form: a form of the kind with a recipe of its own, such as ``sound``.
        not_taken: files of the source that are not items, counted by folder and suffix.
        reading: how the data was interpreted, in one line; empty if unknown.
        task: ``single-label``, ``multi-label`` or ``regression``.
        target_values: of multi-label data (0 or 1) and regression, float32 ``[rows, C]``; an item's target is its row.
        left_out: items that ``--exclude`` or ``--decisions`` leaves out, by id, with the reason.
        notes: remarks on items, by id, such as the label that a decision changed.

    >>> from restune.data.sources import open_dataset
    >>> dataset = open_dataset(photos)
    >>> len(dataset), dataset.classes, dataset.kind
    (20, ('blue', 'red'), 'image')
    """

    items: Sequence[Item]
    classes: tuple[str, ...]
    source: str
    kind: str = "image"
    form: str | None = None
    not_taken: tuple[NotTaken, ...] = ()
    reading: str = ""
    task: str = "single-label"
    target_values: NDArray[np.float32] | None = field(default=None, repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    notes: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        noun = KINDS[self.kind].noun if self.kind in KINDS else "items"
        what = {"multi-label": "labels", "regression": "numbers to predict"}.get(self.task, "classes")
        classes = f"{len(self.classes)} {what}: {shorten(self.classes, 5)}" if self.classes else "no labels"
        splits = "".join(f", {name} {count:,}" for name, count in self.splits().items())
        return f"Dataset({self.source!r}, {len(self.items):,} {noun}{splits}, {classes})"

    def ids(self) -> Iterable[str]:
        """Return the items' ids, in order."""
        return ids_of(self.items)

    def splits(self) -> dict[str, int]:
        """Return the number of items per split; empty if the source defines none."""
        codes = splits_of(self.items)
        counts = {name: int(np.count_nonzero(codes == code)) for code, name in enumerate(SPLITS)}
        return {name: count for name, count in counts.items() if count}

    def select(self, split: str) -> Dataset:
        """Return only the items of one split. Raises UserError if there are none."""
        code = SPLITS.index(split) if split in SPLITS else len(SPLITS)
        chosen = np.flatnonzero(splits_of(self.items) == code)
        if not len(chosen):
            have = ", ".join(f"{name} ({count:,} items)" for name, count in self.splits().items())
            raise UserError(
                f"there is no {split!r} split in this data",
                where=self.source,
                fix=f"name one of its splits with --split: {have}; --split all takes every item"
                if have
                else "leave --split out, or use --split all: none of the items is marked train, val or test",
            )
        return self.take(chosen)

    def take(self, positions: NDArray[Any]) -> Dataset:
        """Return the items at some positions, in this order."""
        return replace(self, items=taken(self.items, positions))

    def class_counts(self) -> dict[str, int]:
        """Return the number of items per class or label, in order; of regression, all items for each number."""
        targets = targets_of(self.items)
        if self.target_values is not None:
            is_there = self.values() > 0.5 if self.task == "multi-label" else np.ones((len(self), len(self.classes)))
            return dict(zip(self.classes, is_there.sum(axis=0).astype(int).tolist(), strict=True))
        counts = np.bincount(targets[targets >= 0], minlength=len(self.classes)).tolist()  # -1: without a label
        return dict(zip(self.classes, counts, strict=False))

    def values(self) -> NDArray[np.float32]:
        """Return the items' target values ``[N, C]``, in order; only of multi-label data and regression."""
        assert self.target_values is not None, "single-label data have class indices"
        return self.target_values[targets_of(self.items)]

    def target_codes(self) -> NDArray[np.int32]:
        """Return one number per item that changes with its target."""
        return target_codes(targets_of(self.items), self.target_values)

    def target_text(self, target: int) -> str:
        """Return an item's target for messages: ``'cat'``, ``'cat|dog'`` or ``3.5``."""
        if self.target_values is None:
            return repr(self.classes[target])
        row = self.target_values[target].tolist()
        if self.task == "multi-label":
            return repr("|".join(name for name, value in zip(self.classes, row, strict=True) if value > 0.5))
        return ", ".join(f"{value:g}" for value in row)

    def with_classes(self, classes: Iterable[str], *, allow_missing: bool = False) -> Dataset:
        """Return the items with targets as indices into `classes`, a model's class order.

        Raises UserError naming the classes that only the data or only `classes` has; with `allow_missing`, the data may
        lack some. Labels are matched by name (ignoring outer white space and Unicode form), so they never shift.
        """
        wanted = tuple(classes)
        if self.task == "regression" and len(wanted) == len(self.classes) == 1:
            return replace(self, classes=wanted)  # one number, whatever its column is called
        index = {clean_name(name): position for position, name in enumerate(wanted)}
        index.update({name: position for position, name in enumerate(wanted)})
        extra = [name for name, count in self.class_counts().items() if count and name not in index]
        present = {index[name] for name, count in self.class_counts().items() if count and name in index}
        missing = [name for position, name in enumerate(wanted) if position not in present]
        if extra or (missing and (self.task == "regression" or not allow_missing)):
            parts = []
            if extra:
                parts.append(f"the data has {_classes(extra)} that the model does not know")
            if missing:
                parts.append(f"the model has {_classes(missing)} with no items in the data")
            raise UserError(
                "the classes of the data and of the model differ: " + "; ".join(parts),
                where=self.source,
                fix="rename or remove the extra classes of the data"
                if extra
                else "add items of the missing classes, or pass --allow-missing to score the others",
            )
        return self.renumbered([index.get(name, -1) for name in self.classes], wanted)  # -1: a class without items

    def renumbered(self, places: Sequence[int], classes: tuple[str, ...]) -> Dataset:
        """Return the items with class index i replaced by `places[i]`, an index into `classes`."""
        if self.target_values is not None:
            values = with_columns(self.target_values, places, len(classes))
            return replace(self, target_values=values, classes=classes)
        if isinstance(self.items, Rows):
            items: Sequence[Item] = self.items.renumbered(places)
        else:
            items = tuple(item if item.target < 0 else replace(item, target=places[item.target]) for item in self.items)
        return replace(self, items=items, classes=classes)

    def fingerprint(self) -> str:
        """Return 16 hex digits over classes, ids, targets and content signatures, in order."""
        signatures = (location.signature() for location in locations_of(self.items))
        rows = zip(self.ids(), self.target_codes().tolist(), signatures, strict=True)
        return fingerprint_of(self.kind, self.classes, rows, self.task)


def fingerprint_of(
    kind: str, classes: tuple[str, ...], rows: Iterable[tuple[str, int, str]], task: str = "single-label"
) -> str:
    """Compute a data set's `fingerprint` from each item's id, target (`Dataset.target_codes`) and signature."""
    about = (kind, classes) if task == "single-label" else (kind, classes, task)
    digest = hashlib.sha256(repr(about).encode())
    for name, target, signature in rows:
        digest.update(f"{name}\0{target}\0{signature}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _classes(names: list[str]) -> str:
    noun = "the class" if len(names) == 1 else f"{len(names)} classes:"
    return f"{noun} {shorten(repr(name) for name in names)}"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How to read DATA where detection is not enough.

    Args:
        kind: ``image``, ``signal``, ``text`` or ``video``, if the data is ambiguous; None detects it.
        path_column, text_column, label_column, group_column, split_column: names (or, without a header, numbers
            from 0) of a table's columns. Usual names are recognised. Several columns of texts, separated by commas, are
            joined with a space, without the empty ones; several label columns are labels (0 or 1) or numbers.
        case_column, time_column: of a long table, one row per time step: the columns of the series id (several
            separated by commas) and of the time.
        header: False for a table without a header line.
        root: the folder a table's paths are relative to; by default the table's own folder.
        encoding: of a text file. None: UTF-8 for tables of paths, detected for texts.
        data_root: folder of torchvision's named data sets, also for downloads.
        labelled: False reads tables of texts and of series without labels, even if there are none: each item's
            target is -1, and there are no classes.
        missing_labels: True keeps rows of a table that have no label, as items with the target -1; else they are an
            error.
        left_out: columns of a table of series that are not values.
        task: ``single-label``, ``multi-label`` or ``regression``, if the labels are ambiguous; None detects it.
        label_separator: of several labels in one column, such as ``cat;dog``; None: ``|``.
        exclude: a check.csv; items that it suggests to drop are left out.
        decisions: a decisions.csv; items are kept, relabelled or dropped as it says.

    >>> table = folder / "labels.csv"
    >>> _ = table.write_text("file,colour\\nred/0.png,red\\nblue/0.png,blue\\n")
    >>> options = restune.DataOptions(path_column="file", label_column="colour", root=photos)
    >>> restune.evaluate(run_folder, table, data_options=options).n
    2
    """

    kind: str | None = None
    path_column: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    case_column: str | None = None
    time_column: str | None = None
    header: bool = True
    root: Path | None = None
    encoding: str | None = None
    data_root: Path | None = None
    labelled: bool = True
    missing_labels: bool = False
    left_out: tuple[str, ...] = ()
    task: str | None = None
    label_separator: str | None = None
    exclude: Path | None = None
    decisions: Path | None = None
