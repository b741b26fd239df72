"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError, shorten
from restune.data import not_taken
from restune.data.class_names import class_order
from restune.data.dataset import SPLITS, Dataset, Location
from restune.data.items import FilePlaces, Places, Rows
from restune.data.sources.walk import is_hidden, suffix_of, walk_files, walk_names
from restune.data.string_array import StringArray

_SUFFIXES = (
    "jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff ppm pgm pbm pnm tga avif heic heif hif jp2 j2k jpx"
)
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def is_image_name(name: str) -> bool:
    """Return whether a name has an image suffix."""
    return suffix_of(name) in IMAGE_SUFFIXES


def walk_images(folder: Path) -> Iterator[Path]:
    """List the images under a folder, sorted, without hidden names; see `walk.walk_files`. Raises UserError."""
    return walk_files(folder, is_image_name)


def open_folder(folder: Path) -> Dataset:
    """Open ``folder/[split/]class/**/image``; class names are sorted. Raises UserError on other layouts."""
    names = StringArray(walk_names(folder, is_image_name))
    return from_names(names, FilePlaces(folder, names), source=str(folder))


def from_named_files(files: Iterable[tuple[str, Location]], source: str, noun: str = "images") -> Dataset:
    """Build a data set from ``[split/]class/.../file`` names and their locations, as `from_names`."""
    names, places = StringArray(), []
    for name, location in files:
        names.add((name,))
        places.append(location)
    return from_names(names, places, source, noun)


def from_names(names: StringArray, places: Places, source: str, noun: str = "images") -> Dataset:
    """Build a data set from ``[split/]class/.../file`` names and their locations; `noun` is for messages.

    Skipped files (see `not_taken.counting`) become its `not_taken`. Raises UserError if all files of a class folder
    were skipped.
    """
    tally = not_taken.current()
    if not len(names):
        raise UserError(
            f"there are no {noun} here{not_taken.described(tally)}",
            where=source,
            fix=f"restune reads class folders of images ending in {shorten(sorted(IMAGE_SUFFIXES), 40)}",
        )
    files, prefix = _without_wrappers(_Files.of(names))
    labelled = _labelled(files)
    unlabelled = list(files.names.picked(np.flatnonzero(~labelled[files.folders]).tolist()))
    used = [parts for parts, is_used in zip(files.parts, labelled.tolist(), strict=True) if is_used]
    split_of = _split_folders(used, source)
    depth = 2 if split_of else 1
    _reject_loose(files, labelled, depth, source, noun)
    passed_over = tally.below(prefix, depth) if tally else ()
    not_taken.reject_vanished(passed_over, {"/".join(parts[:depth]) for parts in used}, depth, source, noun)
    classes = class_order({parts[depth - 1] for parts in used})
    index = {name: position for position, name in enumerate(classes)}
    targets = [index[parts[depth - 1]] if is_used else -1 for parts, is_used in zip(files.parts, labelled, strict=True)]
    splits = [SPLITS.index(split_of[parts[0]]) if parts[:1] and parts[0] in split_of else -1 for parts in files.parts]
    items = Rows(
        names=files.names,
        places=places,
        targets=np.array(targets, np.int32)[files.folders],
        splits=np.array(splits, np.int8)[files.folders] if split_of else None,
        chosen=np.flatnonzero(labelled[files.folders]).astype(np.int32) if unlabelled else None,
    )
    return Dataset(
        items=items, classes=classes, source=source, not_taken=(*passed_over, *not_taken.without_label(unlabelled))
    )


@dataclass(frozen=True)
class _Files:
    """Names of files, whose layout is that of their folders.

    Args:
        names: paths with slashes.
        parts: of the path of each folder that has files; empty for the root.
        folders: each file's index into `parts`.
    """

    names: StringArray
    parts: list[tuple[str, ...]]
    folders: NDArray[np.int32]

    @classmethod
    def of(cls, names: StringArray) -> _Files:
        """Collect the folders, in order of appearance."""
        known: dict[str, int] = {}
        codes = (known.setdefault(name.rpartition("/")[0], len(known)) for name in names)
        folders = np.fromiter(codes, np.int32, len(names))
        return cls(names, [PurePosixPath(folder).parts for folder in known], folders)


def _split_folders(folders: Sequence[tuple[str, ...]], source: str) -> dict[str, str]:
    """Return the outermost folders as splits if all are splits. Raises UserError if only some are."""
    if not all(folders):  # some files are in no folder
        return {}
    outermost = {parts[0] for parts in folders}
    split_of = {name: SPLIT_FOLDERS[name.lower()] for name in outermost if _is_split(name)}
    others = sorted(outermost - set(split_of))
    if split_of and others and min(map(len, folders)) > 1:
        raise UserError(
            f"split folders ({shorten(sorted(split_of))}) are mixed with other folders ({shorten(others)})",
            where=source,
            fix="move the others away, or rename them to train, val or test",
        )
    return {} if others else split_of


def _reject_loose(files: _Files, labelled: NDArray[np.bool_], depth: int, source: str, noun: str) -> None:
    is_loose = (labelled & np.array([len(parts) < depth for parts in files.parts]))[files.folders]
    loose = np.flatnonzero(is_loose)
    if not len(loose):
        return
    first = files.names[int(loose[0])]
    tables = _tables_in(Path(source))
    file = PurePosixPath(first).name
    fix = f"put each into a folder named for its class: DATA/cat/{file}, or DATA/train/cat/{file}"
    raise UserError(
        f"{len(loose)} {noun} lie outside any class folder, such as {first}",
        where=source,
        fix=f"if {tables[0].name} holds their labels, give that table instead of the folder; else {fix}"
        if tables
        else fix,
    )


def _tables_in(folder: Path) -> list[Path]:
    """List the tables in a folder, which may hold the labels of its images."""
    if not folder.is_dir():
        return []
    suffixes = (".csv", ".tsv", ".parquet", ".jsonl")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and not is_hidden(path.name))


UNLABELLED = frozenset(
    (
        *("images", "image", "imgs", "img", "pictures", "photos", "files", "data", "all"),
        *("unknown", "unlabeled", "unlabelled", "nolabel", "none", "test", "testing"),
    )
)
"""Names (lower case) of a test folder's only subfolder that do not name a class."""


def _labelled(files: _Files) -> NDArray[np.bool_]:
    """Return which folders have labels: all but a test folder without class folders."""
    everything = np.ones(len(files.parts), bool)
    folders = [parts for parts in files.parts if parts]
    outermost = {parts[0] for parts in folders}
    tests = {name for name in outermost if SPLIT_FOLDERS.get(name.lower()) == "test"}
    has_splits = any(map(_is_split, outermost - tests))
    loose = sum(int(np.count_nonzero(files.folders == code)) for code, parts in enumerate(files.parts) if not parts)
    if not tests or len(outermost - tests) + loose < (1 if has_splits else 2):
        return everything
    depth = 2 if has_splits else 1
    classes = {parts[depth - 1] for parts in folders if parts[0] not in tests and len(parts) >= depth}
    aside = {name for name in tests if _has_no_classes(name, [parts for parts in folders if parts[0] == name], classes)}
    if not aside or not classes:
        return everything
    return np.array([not parts or parts[0] not in aside for parts in files.parts])


def _has_no_classes(name: str, folders: Sequence[tuple[str, ...]], classes: set[str]) -> bool:
    """Return whether a test folder's files are directly in it, or in one folder that does not name a class."""
    inner = {parts[1] if len(parts) > 1 else "" for parts in folders}
    if inner == {""}:
        return True
    only = next(iter(inner))
    return len(inner) == 1 and only not in classes and (only.lower() in UNLABELLED or only.lower() == name.lower())


def _without_wrappers(files: _Files) -> tuple[_Files, str]:
    """Drop outer folders that contain everything, as in archives (``test/airplane/1.jpg``), but keep the class level.

    Returns the files and the folders that were dropped.
    """
    folders, dropped = files.parts, 0
    while len({parts[:1] for parts in folders}) == 1 and min(map(len, folders)) > 1 and not _is_split(folders[0][0]):
        folders, dropped = [parts[1:] for parts in folders], dropped + 1
    if not dropped:
        return files, ""
    names = StringArray(name.split("/", dropped)[-1] for name in files.names)
    return _Files(names, folders, files.folders), "/".join(files.parts[0][:dropped])


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_FOLDERS
