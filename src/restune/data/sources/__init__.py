"""Every form that DATA may take, one module per form; `open_dataset` recognises the form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from restune.core.errors import UserError, did_you_mean, shorten
from restune.core.files import is_there, user_path
from restune.data import not_taken
from restune.data.class_names import cleaned_classes, reject_several_labels, warn_about_twins
from restune.data.dataset import DataOptions, Dataset, FileLocation
from restune.data.decisions import decided
from restune.data.encodings import check_encoding
from restune.data.items import targets_of
from restune.data.kinds import KINDS, kind_of
from restune.data.sources import (
    arrays,
    clips,
    folder,
    frames_or_images,
    headerless,
    label_forms,
    long_columns,
    long_table,
    named,
    python_objects,
    reading,
    recognise,
    recordings,
    sentences,
    series,
    shards,
    table,
    values,
    walk,
)
from restune.data.sources.readers import table_errors

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
SERIES_SUFFIXES = (".ts", ".tsv", ".csv", ".txt")
_KIND_FIX = "leave out --kind, or name the data's own kind"


def open_dataset(data: Any, options: DataOptions | None = None) -> Dataset:
    """Open the data set named by DATA: folder, table, file of series or texts, npz, tar, shards or known name.

    From Python also a pandas or polars DataFrame, (input, label) pairs, and data sets of PyTorch and Hugging Face; see
    `python_objects.open_object`.

    The kind is `options.kind`, or detected. Raises UserError when nothing is there, the form is unknown, the kind is a
    different one, or the data has no items or only one class.
    """
    if options is not None and (options.exclude or options.decisions) and not options.missing_labels:
        return _labelled(open_dataset(data, replace(options, missing_labels=True)))
    if isinstance(data, Dataset):
        return data if options is None else decided(data, options.exclude, options.decisions)
    label_forms.reject_unknown_task(options or DataOptions())
    if isinstance(data, str | Path):
        dataset = _read(data, options or DataOptions())
    else:
        dataset = _tidied(python_objects.open_object(data, options or DataOptions(), _read_table), options)
    not_taken.say(dataset.not_taken)
    if not dataset.items:
        raise UserError(
            "there are no items in this data",
            where=dataset.source,
            fix="restune reads a folder of class folders, such as data/cat/1.jpg and data/dog/2.jpg",
        )
    if options is not None and options.labelled and options.task not in (None, dataset.task):
        raise UserError(
            f"this data has one class per item, so it is not for {options.task}",
            where=f"{dataset.source}, --task {options.task}",
            fix="give a table of paths (texts, series) with label columns, or leave --task out",
        )
    if any(label_forms.FIELD in name for name in dataset.classes):
        raise UserError(
            "several label columns are not read from this form of table",
            where=dataset.source,
            fix="name one column with --label-column, or give one row per item",
        )
    few = len(dataset.classes) < 2 and dataset.task != "regression"
    if few and (options is None or options.labelled):
        raise UserError(
            f"only one class was found: {shorten(dataset.classes)}",
            where=dataset.source,
            fix="give data of two classes or more; for class folders, the folder that contains them",
        )
    _reject_repeated_ids(dataset)
    dataset = reading.described(dataset)
    return dataset if options is None else decided(dataset, options.exclude, options.decisions)


def _labelled(dataset: Dataset) -> Dataset:
    """Return the data if each item has a label. Raises UserError otherwise."""
    missing = np.flatnonzero(targets_of(dataset.items) < 0)
    if len(missing):
        raise UserError(
            "this item has no label" if len(missing) == 1 else f"{len(missing)} items have no label",
            where=f"{dataset.source}, {dataset.items[int(missing[0])].id}",
            fix="relabel or drop such items in decisions.csv",
        )
    return dataset


def _read(data: str | Path, options: DataOptions) -> Dataset:
    path = user_path(data)
    if options.kind is not None:
        kind_of(options.kind)
    if options.encoding is not None:
        check_encoding(options.encoding)
    if str(data).lower() in named.NAMES and not is_there(path):
        _only_images(options, str(data))
        return named.open_named(str(data).lower(), options)
    if not is_there(path):
        named_shards = shards.expand(str(data))
        if named_shards:
            _only_images(options, str(data))
            return _counted(lambda: shards.open_shards(named_shards, str(data)))
        reject_missing(data)
    if path.is_dir():
        return _counted(_folder_reader(path, options))
    if not path.is_file():
        raise UserError(
            "this is neither a folder nor a regular file",
            where=str(path),
            fix="copy its content to a file, and name that file",
        )
    return _counted(lambda: _read_file(path, options), options)


def reject_missing(data: str | Path) -> None:
    """Raise UserError where `data` is neither a path that exists, nor shards, nor a known name."""
    path = user_path(data)
    if is_there(path) or str(data).lower() in named.NAMES or shards.expand(str(data)):
        return
    hint = did_you_mean(path.name, [*_neighbours(path), *named.NAMES])
    forms = "a folder, a .csv/.tsv/.parquet, a .ts, an .npz, a .tar(.gz), shards such as 'name-{000..099}.tar'"
    names = f"DATA is {forms}, or one of {', '.join(named.NAMES)}"
    raise UserError("there is no such data", where=str(data), fix=hint or names)


def _counted(read: Callable[[], Dataset], options: DataOptions | None = None) -> Dataset:
    """Read the data: count the files that were skipped, and clean the class names."""
    with not_taken.counting() as tally:
        dataset = read()
    return _tidied(dataset if dataset.not_taken else replace(dataset, not_taken=tally.below("", 1)), options)


def _tidied(dataset: Dataset, options: DataOptions | None = None) -> Dataset:
    """Return the data with clean, ordered class names. Raises UserError for several classes in one label."""
    if dataset.task == "single-label" and (options is None or options.task is None):
        reject_several_labels(dataset.classes, dataset.source)
    classes, places = cleaned_classes(dataset.classes, dataset.source)
    if classes != dataset.classes:
        dataset = dataset.renumbered(places, classes)
    if dataset.task != "regression":
        warn_about_twins(dataset.class_counts())
    return dataset


def _folder_reader(path: Path, options: DataOptions) -> Callable[[], Dataset]:
    """Choose the reader of a folder by scanning its files."""
    tars = shards.shards_in(path)
    if tars:
        _only_images(options, str(path))
        if len(tars) == 1:
            return lambda: shards.open_tar(tars[0], path)
        return lambda: shards.open_shards(tars, str(path))
    kind = options.kind
    if kind in (None, "signal") and series.archive_files(path):
        return lambda: series.open_archive(path)
    if kind == "video" or (kind is None and clips.looks_like_clips(path)):
        return lambda: clips.open_clips(path, kind_named=kind is not None)
    kind = kind or recognise.folder_kind(path)
    if options.kind in (None, "signal") and recordings.holds_recordings(path):
        return lambda: recordings.open_recordings(path, options)
    if kind == "signal":
        return lambda: series.open_sounds(path)
    if kind == "image" and options.kind is None:
        frames_or_images.reject_frames(path)
    return lambda: sentences.open_text_folder(path) if kind == "text" else folder.open_folder(path)


def _read_file(path: Path, options: DataOptions) -> Dataset:
    name = path.name.lower()
    if name.endswith(".npz"):
        return arrays.open_npz(path, options.kind)
    if name.endswith(shards.ARCHIVE_SUFFIXES):
        _only_images(options, str(path))
        return shards.open_tar(path)
    if name.endswith(SERIES_SUFFIXES) and series.looks_like_series(path):
        if options.kind not in (None, "signal"):
            raise UserError(
                f"this is a file of series, not of {KINDS[options.kind].noun}", where=str(path), fix=_KIND_FIX
            )
        if name.endswith(".ts") or not (options.path_column or options.label_column or options.case_column):
            return series.open_series(path, labelled=options.labelled)
    if name.endswith(TABLE_SUFFIXES):
        return _read_table(path, options)
    if options.kind in (None, "text") and (options.kind or sentences.looks_like_lines(path, options)):
        return sentences.open_lines(path, options)
    raise UserError(
        f"restune does not read files ending in {path.suffix!r}" + (f" as {options.kind}" if options.kind else ""),
        where=str(path),
        fix="give a folder of class folders, a .csv/.tsv/.parquet table, lines of 'label text', "
        "a .ts, an .npz or a .tar(.gz)",
    )


def _read_table(path: Path, options: DataOptions) -> Dataset:
    with table_errors(path):
        table.reject_empty(path)
        options = headerless.settle_header(path, options)
        if recordings.names_recordings(path, options):
            return recordings.open_recording_table(path, options)
        kind, completed = recognise.table_kind(path, options)
        is_open = options.kind in (None, "signal") and kind in ("image", "signal") and completed.path_column is None
        if options.case_column or is_open:
            long = long_columns.find_long_columns(path, options)
            if long is not None:
                return long_table.open_long_table(path, options, long)
    if kind == "text":
        return sentences.open_text_table(path, completed)
    if kind == "signal":
        if completed.path_column is None:
            return values.open_value_table(path, options)
        return replace(table.open_table(path, completed), kind="signal", form="sound")
    dataset = table.open_table(path, completed)
    return _as_clips(dataset) if kind == "video" else dataset


def _as_clips(dataset: Dataset) -> Dataset:
    """Turn the files of a table into videos."""
    files = ((item, item.location) for item in dataset.items)
    items = (replace(item, location=clips.ClipLocation(at.path)) for item, at in files if isinstance(at, FileLocation))
    return replace(dataset, items=tuple(items), kind="video")


def _only_images(options: DataOptions, where: str) -> None:
    if options.kind not in (None, "image"):
        raise UserError(f"this form of data holds images, not {KINDS[options.kind].noun}", where=where, fix=_KIND_FIX)


def _neighbours(path: Path) -> list[str]:
    """Suggest names that exist beside a missing path."""
    if not path.parent.is_dir():
        return []
    return [entry.name for entry in path.parent.iterdir() if not walk.is_hidden(entry.name)]


def _reject_repeated_ids(dataset: Dataset) -> None:
    hashes = np.sort(np.fromiter(map(hash, dataset.ids()), np.int64, len(dataset)))
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not twice:
        return
    seen: set[str] = set()
    for name in dataset.ids():
        if name in seen:
            raise table.listed_twice(f"{dataset.source}: {name}")
        if hash(name) in twice:
            seen.add(name)
