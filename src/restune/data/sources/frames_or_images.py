"""Recognise folders of numbered frames that would be taken as single images: their clips would span the splits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError
from restune.data.sources.folder import SPLIT_FOLDERS, is_image_name
from restune.data.sources.walk import is_hidden

_NUMBERED = re.compile(r"(.*?)(\d+)\.\w+", re.DOTALL)
_FRAME_WORDS = frozenset({"frame", "frames", "frm", "videoframe"})
_FEWEST = 4
"""Minimum number of images in a folder of frames."""
_CLASSES, _CLIPS = 8, 3
"""Number of class folders, and of clips in each, that are looked at."""
_DEPTH = 4
"""Levels of folders below a class folder that are looked at."""
_SIDE = 16
"""Side of the thumbnails that are compared, pixels."""
_ALIKE = 0.5
"""Frames of one clip differ by less than this share of what frames of different clips differ by."""


def reject_frames(folder: Path) -> None:
    """Raise UserError if class folders hold folders of numbered frames.

    The images of every folder looked at are numbered without gaps, and are named frame, or resemble the next one much
    more than they resemble those of other folders.
    """
    try:
        found = _sequences(folder)
    except OSError:  # reading the folder reports it
        return
    if len(found) < 2 or not (_are_named_frames(found) or _follow_each_other(found)):
        return
    first = found[0]
    raise UserError(
        f"these images look like the frames of videos: {first[0].parent.relative_to(folder)} contains "
        f"{first[0].name} to {first[-1].name}; as single images, the frames of a clip would be in several splits",
        where=str(folder),
        fix="--kind video takes each folder of frames as one video; --kind image insists on single images",
    )


def _sequences(folder: Path) -> list[list[Path]]:
    """Return the images of some folders in class folders; none unless those of every folder looked at are numbered."""
    classes = _class_folders(folder)
    chosen = classes[:: max(1, len(classes) // _CLASSES)][:_CLASSES]
    if len(classes) < 2 or any(_holds_images(one) for one in chosen):
        return []
    found = [_sequence(clip) for one in chosen for clip in islice(_clips(one), _CLIPS)]
    return found if all(found) else []


def _class_folders(folder: Path) -> list[Path]:
    """Return the class folders: below a folder that contains everything, and below folders of splits."""
    inner = _folders_in(folder)
    while len(inner) == 1 and inner[0].name.lower() not in SPLIT_FOLDERS and not _holds_images(folder):
        below = _folders_in(inner[0])
        if not below:
            return inner
        inner = below
    if inner and all(path.name.lower() in SPLIT_FOLDERS for path in inner):
        return [path for split in inner for path in _folders_in(split)]
    return inner


def _folders_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        inner = [entry.path for entry in entries if not is_hidden(entry.name) and entry.is_dir(follow_symlinks=False)]
    return sorted(map(Path, inner))


def _images_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if is_image_name(entry.name) and not is_hidden(entry.name)]


def _holds_images(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(is_image_name(entry.name) and not is_hidden(entry.name) for entry in entries)


def _clips(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield the folders at most `depth` below a class folder that contain images."""
    for path in _folders_in(folder):
        if _holds_images(path):
            yield path
        elif depth > 1:
            yield from _clips(path, depth - 1)


def _sequence(folder: Path) -> list[Path]:
    """Return a folder's images in order if they are numbered without gaps, by one name; else none."""
    found = [(name, _NUMBERED.fullmatch(name)) for name in _images_in(folder)]
    numbers = {int(match[2]): name for name, match in found if match}
    prefixes = {match[1] if match else None for _, match in found}
    ordered = sorted(numbers)
    steps = {after - before for before, after in pairwise(ordered)}
    if len(found) < _FEWEST or len(numbers) < len(found) or len(prefixes) > 1 or len(steps) != 1:
        return []
    return [folder / numbers[number] for number in ordered]


def _are_named_frames(sequences: Sequence[Sequence[Path]]) -> bool:
    prefixes = (_NUMBERED.fullmatch(sequence[0].name) for sequence in sequences)
    words = ({*re.split(r"[^a-z]+", match[1].lower())} for match in prefixes if match)
    return all(word & _FRAME_WORDS for word in words)


def _follow_each_other(sequences: Sequence[Sequence[Path]]) -> bool:
    """Return whether neighbours in a sequence are much more alike than images of different sequences."""
    pairs = [[_thumbnail(path) for path in sequence[len(sequence) // 2 - 1 :][:2]] for sequence in sequences]
    within = [_difference(one, other) for one, other in pairs]
    between = [_difference(pairs[place][0], pairs[place - 1][0]) for place in range(len(pairs))]
    return float(np.nanmedian(within)) < _ALIKE * float(np.nanmedian(between))


def _difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).mean())


def _thumbnail(path: Path) -> NDArray[np.float32]:
    """Return a small grey version of an image; NaN for an unreadable one."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("L", (_SIDE, _SIDE))
            return np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return np.full((_SIDE, _SIDE), np.nan, np.float32)
