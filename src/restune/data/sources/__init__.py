"""Every form DATA may take, one module a form; `open_dataset` tells them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restune.core.errors import UserError, did_you_mean, shorten
from restune.core.files import is_there, user_path
from restune.data.dataset import DataOptions, Dataset
from restune.data.sources import arrays, folder, named, shards, table

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


def open_dataset(data: str | Path | Dataset, options: DataOptions | None = None) -> Dataset:
    """The data set that DATA names: a folder, a table, an npz, a tar, a range or folder of shards, or a known name.

    Raises UserError when there is nothing there, when it is of no known form, or when it has no items or only
    one class.
    """
    if isinstance(data, Dataset):
        return data
    dataset = _read(data, options or DataOptions())
    if not dataset.items:
        raise UserError(
            "there are no items in this data",
            where=dataset.source,
            fix="restune reads a folder of class folders, such as data/cat/1.jpg and data/dog/2.jpg",
        )
    if len(dataset.classes) < 2:
        raise UserError(
            f"only one class was found: {shorten(dataset.classes)}",
            where=dataset.source,
            fix="give data of two classes or more; of class folders, the folder that holds them",
        )
    _reject_repeated_ids(dataset)
    return dataset


def _read(data: str | Path, options: DataOptions) -> Dataset:
    path = user_path(data)
    if str(data).lower() in named.NAMES and not is_there(path):
        return named.open_named(str(data).lower(), options)
    if not is_there(path):
        named_shards = shards.expand(str(data))
        if named_shards:
            return shards.open_shards(named_shards, str(data))
        hint = did_you_mean(path.name, [*_neighbours(path), *named.NAMES])
        forms = "a folder, a .csv/.tsv/.parquet, an .npz, a .tar(.gz), shards such as 'name-{000..099}.tar'"
        names = f"DATA is {forms}, or one of {', '.join(named.NAMES)}"
        raise UserError("there is no such data", where=str(data), fix=hint or names)
    if path.is_dir():
        tars = shards.shards_in(path)
        if len(tars) == 1:
            return shards.open_tar(tars[0], path)
        return shards.open_shards(tars, str(path)) if tars else folder.open_folder(path)
    if not path.is_file():
        raise UserError("this is neither a folder nor a regular file", where=str(path))
    name = path.name.lower()
    if name.endswith(TABLE_SUFFIXES):
        return table.open_table(path, options)
    if name.endswith(".npz"):
        return arrays.open_npz(path)
    if name.endswith(shards.ARCHIVE_SUFFIXES):
        return shards.open_tar(path)
    raise UserError(
        f"a file ending in {path.suffix!r} is no form of data that restune reads",
        where=str(path),
        fix="give a folder of class folders, a .csv/.tsv/.parquet table, an .npz or a .tar(.gz)",
    )


def _neighbours(path: Path) -> list[str]:
    """Names beside a path that is not there: what may have been meant."""
    if not path.parent.is_dir():
        return []
    return [entry.name for entry in path.parent.iterdir() if not folder.is_hidden(entry.name)]


def _reject_repeated_ids(dataset: Dataset) -> None:
    hashes = np.sort(np.fromiter(map(hash, dataset.ids()), np.int64, len(dataset)))
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not twice:
        return
    seen: set[str] = set()
    for name in dataset.ids():
        if name in seen:
            raise UserError("an item is listed twice", where=f"{dataset.source}: {name}", fix="remove one of the two")
        if hash(name) in twice:
            seen.add(name)
