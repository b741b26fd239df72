"""Videos of equal content, and videos whose frames are copies: re-encoded, resized, mirrored."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from restune.core.console import progress
from restune.core.machine import cpu_count
from restune.data.ahead import ahead_in_groups
from restune.data.audit.candidates import candidate_pairs
from restune.data.audit.copies import Copies, grouped_copies, numbered, representatives
from restune.data.audit.perceptual import THUMBNAIL, TRANSFORMS, is_comparable
from restune.data.audit.verify import verified
from restune.data.dataset import Dataset
from restune.data.items import location_at
from restune.data.preload import read_item
from restune.data.video import probe, read_frames

_PLACES = (0.25, 0.5, 0.75)
"""Where in the video its frames are taken."""
_LEAST_FRAMES = 2
"""Frames that are copies at the same place in both videos."""


def copies_of_videos(dataset: Dataset, workers: int | None = None) -> tuple[Copies, dict[str, str]]:
    """Group equal videos, and those of which two of three frames are copies.

    Returns also the reason by id of each video that cannot be read.
    """
    count = len(dataset)
    contents, is_read = np.zeros(count, np.uint64), np.zeros(count, bool)
    frames = np.zeros((count, len(_PLACES), THUMBNAIL, THUMBNAIL), np.uint8)
    sides = np.zeros(count, np.int64)
    unreadable: dict[str, str] = {}
    rows = range(count)
    with progress("checking videos", count) as advance:
        read = ahead_in_groups(
            lambda row: read_item(location_at(dataset.items, row), _thumbnails), rows, workers or cpu_count(), 1
        )
        for row, (digits, made) in zip(rows, read, strict=True):
            if isinstance(made, str):
                unreadable[dataset.items[row].id] = made
            else:
                contents[row], is_read[row] = int(digits, 16), True
                frames[row], sides[row] = made
            advance(1)
    exact = numbered(contents, is_known=is_read)
    heads = representatives(exact)
    heads = heads[is_read[heads]]
    return _grouped(exact, heads, frames[heads], sides[heads]), unreadable


def _thumbnails(content: Any) -> tuple[NDArray[np.uint8], int]:
    """Return three frames as thumbnails, and the longer side of the video. Raises DecodeError."""
    path = Path(content)
    timeline = probe(path)
    wanted = [int(place * (len(timeline) - 1)) for place in _PLACES]
    pictures = list(read_frames(path, timeline, wanted, lambda frame: frame))
    return np.stack([_thumbnail(picture) for picture in pictures]), max(pictures[0].shape[1:])


def _thumbnail(frame: Tensor) -> NDArray[np.uint8]:
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).convert("L")
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR))


def _grouped(
    exact: NDArray[np.int64], heads: NDArray[np.int64], frames: NDArray[np.uint8], sides: NDArray[np.int64]
) -> Copies:
    flat = frames.reshape(-1, THUMBNAIL, THUMBNAIL)
    usable = np.flatnonzero(is_comparable(flat)) if len(flat) else np.empty(0, np.int64)
    candidates = candidate_pairs(flat[usable])
    same_place = usable[candidates[:, 0]] % len(_PLACES) == usable[candidates[:, 1]] % len(_PLACES)
    is_whole = candidates[:, 2] < len(TRANSFORMS)
    pairs = verified(flat[usable], np.repeat(sides, len(_PLACES))[usable], candidates[same_place & is_whole])
    found: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    videos = np.stack([usable[pairs.first] // len(_PLACES), usable[pairs.second] // len(_PLACES), pairs.change], 1)
    for (one, other, change), score in zip(videos.tolist(), pairs.scores.tolist(), strict=True):
        if one != other:
            found[one, other, change].append(score)
    copies = [(*key, float(np.mean(scores))) for key, scores in found.items() if len(scores) >= _LEAST_FRAMES]
    first, second, changes = (np.array([copy[column] for copy in copies], np.int64) for column in range(3))
    scores = np.array([copy[3] for copy in copies], np.float32)
    names = ("re-encoded or resized", *(one.name for one in TRANSFORMS[1:]))
    return grouped_copies(exact, heads[first], heads[second], scores, changes, names)
