"""A folder of class folders, with or without train, val and test above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from restune.core.errors import UserError, shorten
from restune.data.dataset import Dataset, FileLocation, Item, Location
from restune.data.sources.walk import walk_files

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


def is_image_name(name: str) -> bool:
    """Whether a name ends like an image's."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def walk_images(folder: Path) -> Iterator[Path]:
    """Images under a folder, sorted, hidden names left out; see `walk.walk_files`. Raises UserError."""
    return walk_files(folder, is_image_name)


def open_folder(folder: Path) -> Dataset:
    """Items of ``folder/[split/]class/**/image``; the class names are sorted. Raises UserError on other layouts."""
    names = ((path.relative_to(folder).as_posix(), FileLocation(path)) for path in walk_images(folder))
    return from_named_files(names, source=str(folder))


def from_named_files(files: Iterable[tuple[str, Location]], source: str, noun: str = "images") -> Dataset:
    """A data set from ``[split/]class/.../file`` names and where each one's content is; `noun` is for messages."""
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
            f"{len(loose)} {noun} lie outside any class folder, such as {loose[0]}",
            where=source,
            fix="put each into a folder named for its class: "
            f"DATA/cat/{loose[0].name}, or DATA/train/cat/{loose[0].name}",
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
