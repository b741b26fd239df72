"""Items to label: those of DATA without a label, and the labelled ones that are known beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.core.files import is_there, user_path
from restune.data import not_taken
from restune.data.class_names import class_order, clean_name
from restune.data.dataset import DataOptions, Dataset, FileLocation, Item
from restune.data.decisions import read_decisions
from restune.data.items import targets_of
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset, recognise, series, shards
from restune.data.sources.clips import ClipLocation, looks_like_clips
from restune.data.sources.folder import SPLIT_FOLDERS, UNLABELLED
from restune.data.sources.sentences import TextLocation
from restune.runs.record import read_run_record
from restune.runs.reopen import reopened_splits
from restune.runs.split_record import read_split_record

PATHS, TEXTS, DECISIONS = "path", "text", "item"
"""Forms of the table that the labels go into, by its first column: ``path,label``, ``text,label``, and decisions on the
items of DATA."""
_NO_COLUMN, _NO_CLASSES = "no column looks like the labels", "only one class was found: "
"""What `open_dataset` says of a table without a column of labels, and of one whose column is empty."""


@dataclass(frozen=True, kw_only=True)
class LabelPool:
    """Items with and without a label.

    Args:
        dataset: all of them; an item without a label has the target -1.
        form: of the table that labels go into, see `PATHS`.
        root: the folder that paths of that table are relative to; None for other forms.
        labels_from: where the labels come from, for messages; empty without labels.
        is_open: whether classes can be added.
        decided: ids of items whose label is not that of DATA.
    """

    dataset: Dataset
    form: str
    root: Path | None
    labels_from: str
    is_open: bool
    decided: frozenset[str] = frozenset()

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class indices, -1 without a label."""
        return targets_of(self.dataset.items).astype(np.int64)


def open_pool(
    data: Any,
    options: DataOptions,
    *,
    labels: str | Path | None = None,
    classes: Sequence[str] = (),
    run: Path | None = None,
) -> LabelPool:
    """Open DATA and find the labels that are known.

    Labels are those of `labels`; else those of DATA itself (a column, or class folders); else those of the training
    and validation items of `run`.

    Args:
        data: a folder, with or without class folders; a table or another data set, of which some items have labels.
        options: how to read it.
        labels: a table of paths, or of texts, and labels; or decisions on items (see `restune.data.decisions`).
        classes: names of classes; only folders of these names are then labels.
        run: folder of the run of the model, if it is one.

    Raises UserError if DATA does not have an item without a label.
    """
    path = user_path(data) if isinstance(data, str | Path) else None
    if path is not None and path.is_dir() and not _is_one_source(path):
        kind = options.kind or ("video" if looks_like_clips(path) else recognise.folder_kind(path))
        named = _folder_items(path, kind)
        known = {} if labels is not None else _folder_labels(named, classes, is_run=run is not None)
        pool = _of_folder(path, kind, named, known)
    else:
        pool = _of_source(data, options)
    if labels is not None:
        pool = _with_table(pool, user_path(labels), options)
    elif run is not None and not pool.labels_from:
        pool = _with_run(pool, run)
    pool = _with_classes(pool, classes)
    if (pool.targets >= 0).all():
        raise UserError(
            "every item of this data has a label", where=pool.dataset.source,
            fix="add items without one; if its folders are not classes, name the classes: --classes cat,dog",
        )  # fmt: skip
    return pool


def _is_one_source(folder: Path) -> bool:
    """Return whether a folder is of a form whose items are not files."""
    return bool(shards.shards_in(folder) or series.archive_files(folder))


def _folder_items(folder: Path, kind: str) -> list[tuple[str, Path]]:
    """Return the files of a folder that are items of this kind, by their paths below it. Raises UserError for none."""
    with not_taken.counting() as tally:
        files = list(kind_of(kind).files_below(folder))
    if kind == "signal":
        files = [file for file in files if file.suffix.lower() == ".wav"]
    if not files:
        raise UserError(
            f"there are no {kind_of(kind).noun} here{not_taken.described(tally)}", where=str(folder),
            fix="name a folder of images, videos, .wav or .txt files, or a table; --kind says which kind to take",
        )  # fmt: skip
    return [(file.relative_to(folder).as_posix(), file) for file in files]


def _folder_labels(named: Iterable[tuple[str, Path]], classes: Sequence[str], *, is_run: bool) -> dict[str, str]:
    """Return the labels of items in class folders, by name.

    Files in no folder, or in one called unlabelled or the like, have no label. Without `classes`, two folders or more
    are classes, unless a run has the labels.
    """
    folders = {name: _class_folder(name) for name, _ in named}
    if classes:
        wanted = {clean_name(name) for name in classes}
        return {name: folder for name, folder in folders.items() if folder in wanted}
    found = set(folders.values()) - {""}
    return {} if is_run or len(found) < 2 else {name: folder for name, folder in folders.items() if folder}


def _class_folder(name: str) -> str:
    """Return the name of the class folder that a file is in; empty for none."""
    parts = name.split("/")[:-1]
    if parts and parts[0].lower() in SPLIT_FOLDERS:
        parts = parts[1:]
    return "" if not parts or parts[0].lower() in UNLABELLED else clean_name(parts[0])


def _of_folder(folder: Path, kind: str, named: Sequence[tuple[str, Path]], known: Mapping[str, str]) -> LabelPool:
    classes = class_order(known.values())
    index = {name: place for place, name in enumerate(classes)}
    items = tuple(
        Item(id=name, location=kind_of(kind).location(file), target=index[known[name]] if name in known else -1)
        for name, file in named
    )
    return LabelPool(
        dataset=Dataset(
            items=items, classes=classes, source=str(folder), kind=kind, form="sound" if kind == "signal" else None
        ),
        form=TEXTS if kind == "text" else PATHS,
        root=None if kind == "text" else folder.absolute(),
        labels_from=str(folder) if known else "",
        is_open=True,
    )


def _of_source(data: Any, options: DataOptions) -> LabelPool:
    """Open a table or another data set, with the labels that it has."""
    try:
        dataset = open_dataset(data, replace(options, missing_labels=True))
    except UserError as error:
        if options.label_column or not (error.what.startswith(_NO_COLUMN) or error.what == _NO_CLASSES):
            raise
        return _unlabelled(open_dataset(data, replace(options, labelled=False, task=None)), options, error)
    if dataset.task != "single-label":
        raise UserError(
            f"items to label have one class each; this is {dataset.task} data", where=dataset.source,
            fix="label such data with a program for its task",
        )  # fmt: skip
    return LabelPool(dataset=dataset, form=DECISIONS, root=None, labels_from=dataset.source, is_open=False)


def _unlabelled(dataset: Dataset, options: DataOptions, refusal: UserError) -> LabelPool:
    """Return the pool of a table without labels: its rows name files or hold texts. Raises `refusal` for others."""
    first = dataset.items[0].location
    if isinstance(first, TextLocation):
        return LabelPool(dataset=dataset, form=TEXTS, root=None, labels_from="", is_open=True)
    if not isinstance(first, FileLocation | ClipLocation):
        raise refusal
    root = user_path(options.root) if options.root else user_path(dataset.source).parent
    return LabelPool(dataset=dataset, form=PATHS, root=root.absolute(), labels_from="", is_open=True)


def _with_table(pool: LabelPool, file: Path, options: DataOptions) -> LabelPool:
    """Give the items the labels of a table. Its items that DATA does not have are added."""
    if _is_decisions(file):
        return _decided(pool, read_decisions(file).relabelled, file)
    root = options.root or pool.root
    reading = DataOptions(kind=pool.dataset.kind, root=root, encoding=options.encoding, missing_labels=True)
    table = open_dataset(file, reading)
    if table.task != "single-label":
        raise UserError(
            f"labels of {table.task} data are not read", where=f"--labels {file}", fix="give one class each"
        )
    labelled = [(item, table.classes[item.target]) for item in table.items if item.target >= 0]
    return _joined(pool, labelled, file.name)


def _is_decisions(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            return lines.readline().strip() == "item,decision,label"
    except OSError as error:
        raise UserError(
            f"the labels cannot be read: {error.strerror}", where=f"--labels {file}", fix="check the path"
        ) from error


def _decided(pool: LabelPool, labels: Mapping[str, str], file: Path) -> LabelPool:
    """Give items the labels of decisions, by their ids."""
    by_id = {item.id: item for item in pool.dataset.items}
    unknown = [name for name in labels if name not in by_id]
    if unknown:
        warn(f"{len(unknown):,} of the {len(labels):,} items in {file.name} are not in the data: {shorten(unknown, 3)}")
    labelled = [(by_id[name], clean_name(label)) for name, label in labels.items() if name in by_id]
    return replace(_joined(pool, labelled, file.name), decided=frozenset(item.id for item, _ in labelled))


def _with_run(pool: LabelPool, run: Path) -> LabelPool:
    """Add the training and validation items of a run, if its data is still there; leave out its test items."""
    try:
        kind, labelled, tests = _recorded(run) or _reopened(run)
    except UserError as error:
        note(f"the labels of {run} are not used: {error.what}")
        return pool
    if kind != pool.dataset.kind:
        return pool
    held_out = {_place(item) for item in tests}
    kept = tuple(item for item in pool.dataset.items if _place(item) not in held_out)
    return _joined(replace(pool, dataset=replace(pool.dataset, items=kept)), labelled, str(run))


_Found = tuple[str, list[tuple[Item, str]], list[Item]]
"""Kind of a run's data, its training and validation items with their labels, and its test items."""


def _recorded(run: Path) -> _Found | None:
    """Return the items of a run on a folder of files, as its record has them: files may have come in since.

    None for other data, and where most of the files are gone.
    """
    record, split = read_run_record(run), read_split_record(run)
    folder = None if record is None or record.absolute is None else Path(record.absolute)
    if split is None or folder is None or not folder.is_dir() or split.task != "single-label" or split.kind == "text":
        return None
    place = kind_of(split.kind).location
    labelled, tests, missing = [], [], 0
    for name, items in split.splits.items():
        for item, target in zip(items.ids, items.targets.tolist(), strict=True):
            file = folder / item
            if not is_there(file):
                missing += 1
            elif name == "test":
                tests.append(Item(id=item, location=place(file), target=-1))
            else:
                labelled.append((Item(id=item, location=place(file), target=target), split.classes[target]))
    return None if missing > len(labelled) else (split.kind, labelled, tests)


def _reopened(run: Path) -> _Found:
    """Open a run's data again. Raises UserError if it is gone, or not of single-label data."""
    splits = reopened_splits(run)
    if splits.train.task != "single-label":
        raise UserError(f"items to label have one class each; this is {splits.train.task} data", where=str(run))
    parts = [part for part in (splits.train, splits.val) if part is not None]
    labelled = [(item, part.classes[item.target]) for part in parts for item in part.items]
    return splits.train.kind, labelled, [] if splits.test is None else list(splits.test.items)


def _joined(pool: LabelPool, labelled: Sequence[tuple[Item, str]], source: str) -> LabelPool:
    """Give items the labels of equal places (files or texts), and add the labelled items that the pool lacks."""
    named = {_place(item): label for item, label in labelled}
    own = {_place(item) for item in pool.dataset.items}
    before = pool.dataset.classes
    classes = class_order([*before, *named.values()])
    index = {name: place for place, name in enumerate(classes)}

    def target(item: Item) -> int:
        label = named.get(_place(item)) or (before[item.target] if item.target >= 0 else None)
        return -1 if label is None else index[label]

    items = [replace(item, target=target(item)) for item in pool.dataset.items]
    taken = {item.id for item in items}
    for item, label in labelled:
        place = _place(item)
        if place not in own:
            own.add(place)
            name = _named_from(pool.root, item) if pool.form == PATHS else item.id
            while name in taken:
                name += "+"
            taken.add(name)
            items.append(replace(item, id=name, target=index[label], split=None))
    return replace(
        pool,
        dataset=replace(pool.dataset, items=tuple(items), classes=classes),
        labels_from=source if named else "",
    )


def _place(item: Item) -> str:
    """Return what two items share that are the same: the file, the text, or the id."""
    at = item.location
    if isinstance(at, FileLocation | ClipLocation):
        return str(at.path.resolve())
    return f"\0{at.read()}" if isinstance(at, TextLocation) else f"\0\0{item.id}"


def _named_from(root: Path | None, item: Item) -> str:
    """Return the path of an item's file below the root, or its full path."""
    at = item.location
    if root is None or not isinstance(at, FileLocation | ClipLocation):
        return item.id
    path = at.path.absolute()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _with_classes(pool: LabelPool, classes: Sequence[str]) -> LabelPool:
    """Add classes that are named, in front; those that only labels have come after them."""
    wanted = [clean_name(name) for name in classes if clean_name(name)]
    if not wanted:
        return pool
    have = pool.dataset.classes
    fresh = [name for name in wanted if name not in have]
    if fresh and not pool.is_open:
        raise UserError(
            f"{shorten(map(repr, fresh))} is not a class of the data", where="--classes",
            fix=f"its classes are {shorten(have)}; new ones go into its label column",
        )  # fmt: skip
    names = tuple(dict.fromkeys([*wanted, *have]))
    return replace(pool, dataset=pool.dataset.renumbered([names.index(name) for name in have], names))
