"""Recognise a run's own data and training items when its model is evaluated, by id, size and content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten
from restune.core.files import is_there, user_path
from restune.data.ahead import ahead_in_groups
from restune.data.dataset import SPLITS, Dataset, Item
from restune.data.decisions import decided
from restune.data.preload import content_hash
from restune.runs.record import read_run_record
from restune.runs.split_record import PREFIXES, SplitRecord, read_split_record, signature_of

_SHARE = 0.5
"""Share of a run's items that data must contain to count as the run's own data."""
_CHECKED = 32
"""Number of items whose content is read to confirm it."""


@dataclass(frozen=True)
class _Known:
    """An item of a run: its split and recorded state."""

    split: str
    signature: str
    content: str


def record_of(model: str) -> SplitRecord | None:
    """Read the record of the run whose folder holds a model's file; None for any other model.

    Args:
        model: where it was loaded from.
    """
    path = user_path(model)
    return read_split_record(path.parent) if is_there(path) and path.is_file() else None


def own_items(record: SplitRecord, dataset: Dataset, split: str | None) -> Dataset | None:
    """Return the items of one of the run's splits if `dataset` is the run's own data; else None.

    Args:
        split: ``train``, ``val``, ``test`` or ``all``; None for test if this data has test items, else val.

    Notes the scored items, and warns of items of the split that are missing. Raises UserError for a split that the run
    does not have.
    """
    known = _recognised(record, dataset)
    if known is None:
        return None
    counts = {name: sum(one.split == name for one in known.values()) for name in SPLITS}
    counts = {name: count for name, count in counts.items() if count}
    if split is None:
        split = next((name for name in ("test", "val") if name in counts), "all")
    if split not in (*SPLITS, "all"):
        raise UserError(f"unknown split {split!r}", where="--split", fix="use train, val, test or all")
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    if split != "all" and split not in counts:
        raise UserError(f"this run has no {split} items in this data", where="--split", fix=f"it has {listed}")
    wanted = {name: one for name, one in known.items() if split in ("all", one.split)}
    items = [item for item in dataset.items if item.id in wanted]
    note(f"this is the data that the run was made from ({listed}); the {split} items are scored (--split)")
    _warn_of_differences(wanted, items)
    return replace(dataset, items=tuple(items))


def with_run_labels(model: str, record: SplitRecord, dataset: Dataset) -> Dataset:
    """Return a run's own data as the run's ``--decisions`` left it: relabelled items have the labels that it learned.

    Other data is returned as it is. Warns where the table of decisions is gone or has another content than in the run.

    Args:
        model: where it was loaded from.
    """
    run = read_run_record(user_path(model).parent)
    table = None if run is None else run.options.decisions
    if run is None or table is None or _recognised(record, dataset) is None:
        return dataset
    if not run.has_its_table("decisions"):
        warn(
            f"the run was made with --decisions {table}, which is gone or has changed: items that it relabelled are "
            "scored by their labels in the data; name the table with --decisions"
        )
        return dataset
    return decided(dataset, None, table)


def warn_of_training_items(record: SplitRecord, dataset: Dataset) -> None:
    """Warn if training items of the model are to be scored, whatever their ids."""
    if dataset.kind != record.kind:
        return
    train = record.splits["train"]
    contents = dict(zip(train.contents, train.signatures, strict=True))
    contents.pop("", None)
    signatures = set(contents.values())
    alike = [item for item in dataset.items if signature_of(item) in signatures]
    copies = sum(content in contents for content in ahead_in_groups(_content, alike, 2, 16))
    if copies:
        items = "1 item" if copies == 1 else f"{copies} items"
        warn(
            f"{items} of the {len(dataset)} scored trained this model: the score of such items says nothing about "
            "new data"
        )


def _recognised(record: SplitRecord, dataset: Dataset) -> Mapping[str, _Known] | None:
    """Return the run's items from this data, by their ids in it; None if this is other data.

    A run's own data is its training data, or a separate validation or test data set.
    """
    if dataset.kind != record.kind:
        return None
    signatures = {item.id: signature_of(item) for item in dataset.items}
    for prefix in ("", *PREFIXES):
        known = _items_of(record, prefix)
        same = [name for name, one in known.items() if signatures.get(name) == one.signature]
        if same and len(same) >= _SHARE * len(known) and _have_content(dataset, known, same):
            return known
    return None


def _items_of(record: SplitRecord, prefix: str) -> dict[str, _Known]:
    """Return the recorded items with this id prefix, by their ids without it."""
    found = {}
    for split, items in record.splits.items():
        foreign = f"{split}:" in PREFIXES and all(name.startswith(f"{split}:") for name in items.ids)
        if foreign != bool(prefix) or (prefix and not prefix.startswith(split)):
            continue
        for name, signature, content in zip(items.ids, items.signatures, items.contents, strict=True):
            found[name.removeprefix(prefix)] = _Known(split, signature, content)
    return found


def _have_content(dataset: Dataset, known: Mapping[str, _Known], names: Sequence[str]) -> bool:
    """Return whether a sample of these items has the content recorded by the run."""
    chosen = set(names[:: max(1, len(names) // _CHECKED)])
    items = [item for item in dataset.items if item.id in chosen]
    same = sum(known[item.id].content in ("", _content(item)) for item in items)
    return same >= _SHARE * len(items)


def _warn_of_differences(wanted: Mapping[str, _Known], items: Sequence[Item]) -> None:
    """Warn of items of the split that are missing or changed."""
    gone = sorted(set(wanted) - {item.id for item in items})
    changed = [item.id for item in items if signature_of(item) != wanted[item.id].signature]
    for names, what in ((gone, "are no longer in this data"), (changed, "changed since the run began")):
        if names:
            warn(f"{len(names)} of the {len(wanted)} items {what}: {shorten(names, 3)}")


def _content(item: Item) -> str:
    """Return the hash of an item's content; for an unreadable item, a text that equals no hash."""
    try:
        return content_hash(item.location.read())
    except (OSError, ValueError, MemoryError):
        return "unreadable"
