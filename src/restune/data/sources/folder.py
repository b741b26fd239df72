"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from restune.core.errors import UserError, shorten
from restune.data.dataset import Dataset, FileLocation, Item, Location

_SUFFIXES = "jpg jpeg jpe jfif png apng gif webp bmp dib tif tiff ppm pgm pbm pnm tga avif jp2"
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
_MOST_VISITS = 256
"""How often links may lead into one and the same folder."""
_HIDDEN = frozenset({"__macosx", "__pycache__", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "lost+found"})


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's own and no class or item: dot files, ``__MACOSX``, ``Thumbs.db``."""
    return name.startswith(".") or name.lower() in _HIDDEN


def is_image_name(name: str) -> bool:
    """Whether a name ends like an image's."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def walk_images(folder: Path) -> Iterator[Path]:
    """Images under a folder, sorted, hidden names left out. Links are followed, but not back up.

    Raises UserError for a folder that cannot be read, and for links that lead to one folder over and over.
    """
    visits: Counter[_Identity] = Counter()
    here, entries = _look_into(folder)
    open_folders: list[tuple[_Identity, Iterator[os.DirEntry[str]]]] = [(here, entries)]  # from the outermost in
    while open_folders:
        entry = next(open_folders[-1][1], None)
        if entry is None:
            open_folders.pop()
        elif is_hidden(entry.name):
            continue
        elif _is_folder(entry):
            here, entries = _look_into(Path(entry.path))
            if any(here == above for above, _ in open_folders):  # a link back up would go round for ever
                continue
            visits[here] += 1
            if visits[here] > _MOST_VISITS:
                raise UserError(
                    f"links lead to this folder more than {_MOST_VISITS} times",
                    where=entry.path,
                    fix="remove links between folders that lead to each other",
                )
            open_folders.append((here, entries))
        elif is_image_name(entry.name):
            yield Path(entry.path)


_Identity = tuple[int, int]
"""A folder's device and inode."""


def _look_into(folder: Path) -> tuple[_Identity, Iterator[os.DirEntry[str]]]:
    try:
        status = folder.stat()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read this folder: {error.strerror}", where=str(folder)) from error
    return (status.st_dev, status.st_ino), iter(entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def open_folder(folder: Path) -> Dataset:
    """Items of ``folder/[split/]class/**/image``; the class names are sorted. Raises UserError on other layouts."""
    names = ((path.relative_to(folder).as_posix(), FileLocation(path)) for path in walk_images(folder))
    return from_named_files(names, source=str(folder))


def from_named_files(files: Iterable[tuple[str, Location]], source: str) -> Dataset:
    """A data set from ``[split/]class/.../file`` names and where each one's content is."""
    found = [(PurePosixPath(name), location) for name, location in files]
    if not found:
        raise UserError(
            "there are no images here",
            where=source,
            fix=f"restune reads class folders of images ending in {shorten(sorted(IMAGE_SUFFIXES), 30)}",
        )
    found = _without_wrappers(found)
    split_of = {name: SPLIT_FOLDERS[name.lower()] for name in {p.parts[0] for p, _ in found} if _is_split(name)}
    others = sorted({path.parts[0] for path, _ in found} - set(split_of))
    has_splits = bool(split_of) and not others
    if split_of and others and min(len(path.parts) for path, _ in found) > 2:
        raise UserError(
            f"split folders ({shorten(sorted(split_of))}) stand beside others ({shorten(others)})",
            where=source,
            fix="move the others away, or rename them to train, val or test",
        )
    depth = 2 if has_splits else 1
    loose = [path for path, _ in found if len(path.parts) <= depth]
    if loose:
        raise UserError(
            f"{len(loose)} images lie outside any class folder, such as {loose[0]}",
            where=source,
            fix="put each image into a folder named for its class: DATA/cat/1.jpg, or DATA/train/cat/1.jpg",
        )
    classes = tuple(sorted({path.parts[depth - 1] for path, _ in found}))
    index = {name: position for position, name in enumerate(classes)}
    items = tuple(
        Item(
            id=path.as_posix(),
            location=location,
            target=index[path.parts[depth - 1]],
            split=split_of[path.parts[0]] if has_splits else None,
        )
        for path, location in found
    )
    return Dataset(items=items, classes=classes, source=source)


def _without_wrappers(found: list[tuple[PurePosixPath, Location]]) -> list[tuple[PurePosixPath, Location]]:
    """Drop outer folders that hold everything, as archives have (``test/airplane/1.jpg``), but keep the class level."""
    while len({path.parts[0] for path, _ in found}) == 1 and min(len(path.parts) for path, _ in found) > 2:
        if _is_split(found[0][0].parts[0]):
            break
        found = [(PurePosixPath(*path.parts[1:]), location) for path, location in found]
    return found


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_FOLDERS
