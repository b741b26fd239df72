"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from restune.core.errors import UserError, shorten
from restune.data import not_taken
from restune.data.class_names import class_order
from restune.data.dataset import Dataset, FileLocation, Item, Location
from restune.data.sources.walk import is_hidden, suffix_of, walk_files

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
    names = ((path.relative_to(folder).as_posix(), FileLocation(path)) for path in walk_images(folder))
    return from_named_files(names, source=str(folder))


_Files = list[tuple[PurePosixPath, Location]]


def from_named_files(files: Iterable[tuple[str, Location]], source: str, noun: str = "images") -> Dataset:
    """Build a data set from ``[split/]class/.../file`` names and their locations; `noun` is for messages.

    Skipped files (see `not_taken.counting`) become its `not_taken`. Raises UserError if all files of a class folder
    were skipped.
    """
    found = [(PurePosixPath(name), location) for name, location in files]
    tally = not_taken.current()
    if not found:
        raise UserError(
            f"there are no {noun} here{not_taken.described(tally)}",
            where=source,
            fix=f"restune reads class folders of images ending in {shorten(sorted(IMAGE_SUFFIXES), 40)}",
        )
    found, prefix = _without_wrappers(found)
    found, unlabelled = _without_unlabelled(found)
    split_of = _split_folders(found, source)
    depth = 2 if split_of else 1
    _reject_loose(found, depth, source, noun)
    passed_over = tally.below(prefix, depth) if tally else ()
    taken = {"/".join(path.parts[:depth]) for path, _ in found}
    not_taken.reject_vanished(passed_over, taken, depth, source, noun)
    classes = class_order({path.parts[depth - 1] for path, _ in found})
    index = {name: position for position, name in enumerate(classes)}
    items = tuple(
        Item(
            id=path.as_posix(),
            location=location,
            target=index[path.parts[depth - 1]],
            split=split_of.get(path.parts[0]),
        )
        for path, location in found
    )
    return Dataset(
        items=items, classes=classes, source=source, not_taken=(*passed_over, *not_taken.without_label(unlabelled))
    )


def _split_folders(found: _Files, source: str) -> dict[str, str]:
    """Return the outermost folders as splits if all are splits. Raises UserError if only some are."""
    outermost = {path.parts[0] for path, _ in found}
    split_of = {name: SPLIT_FOLDERS[name.lower()] for name in outermost if _is_split(name)}
    others = sorted(outermost - set(split_of))
    if split_of and others and min(len(path.parts) for path, _ in found) > 2:
        raise UserError(
            f"split folders ({shorten(sorted(split_of))}) are mixed with other folders ({shorten(others)})",
            where=source,
            fix="move the others away, or rename them to train, val or test",
        )
    return {} if others else split_of


def _reject_loose(found: _Files, depth: int, source: str, noun: str) -> None:
    loose = [path for path, _ in found if len(path.parts) <= depth]
    if not loose:
        return
    tables = _tables_in(Path(source))
    fix = f"put each into a folder named for its class: DATA/cat/{loose[0].name}, or DATA/train/cat/{loose[0].name}"
    raise UserError(
        f"{len(loose)} {noun} lie outside any class folder, such as {loose[0]}",
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


_UNLABELLED = frozenset(
    (
        *("images", "image", "imgs", "img", "pictures", "photos", "files", "data", "all"),
        *("unknown", "unlabeled", "unlabelled", "nolabel", "none", "test", "testing"),
    )
)
"""Names (lower case) of a test folder's only subfolder that do not name a class."""


def _without_unlabelled(found: _Files) -> tuple[_Files, list[str]]:
    """Separate the unlabelled files: those of a test folder without class folders. Returns labelled, unlabelled."""
    outermost = {path.parts[0] for path, _ in found}
    tests = {name for name in outermost if SPLIT_FOLDERS.get(name.lower()) == "test"}
    if not tests or len(outermost - tests) < (1 if any(map(_is_split, outermost - tests)) else 2):
        return found, []
    depth = 2 if any(map(_is_split, outermost - tests)) else 1
    classes = {path.parts[depth - 1] for path, _ in found if path.parts[0] not in tests and len(path.parts) > depth}
    aside = {
        name for name in tests if _has_no_classes(name, [path for path, _ in found if path.parts[0] == name], classes)
    }
    if not aside or not classes:
        return found, []
    unlabelled = [path.as_posix() for path, _ in found if path.parts[0] in aside]
    return [file for file in found if file[0].parts[0] not in aside], unlabelled


def _has_no_classes(name: str, files: Sequence[PurePosixPath], classes: set[str]) -> bool:
    """Return whether a test folder's files are directly in it, or in one folder that does not name a class."""
    inner = {path.parts[1] if len(path.parts) > 2 else "" for path in files}
    if inner == {""}:
        return True
    only = next(iter(inner))
    return len(inner) == 1 and only not in classes and (only.lower() in _UNLABELLED or only.lower() == name.lower())


def _without_wrappers(found: _Files) -> tuple[_Files, str]:
    """Drop outer folders that contain everything, as in archives (``test/airplane/1.jpg``), but keep the class level.

    Returns the files and the folders that were dropped.
    """
    prefix = ""
    while len({path.parts[0] for path, _ in found}) == 1 and min(len(path.parts) for path, _ in found) > 2:
        outer = found[0][0].parts[0]
        if _is_split(outer):
            break
        prefix = f"{prefix}/{outer}" if prefix else outer
        found = [(PurePosixPath(*path.parts[1:]), location) for path, location in found]
    return found, prefix


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_FOLDERS
