"""The frame times of a video, and videos that are folders of numbered images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restune.data.dataset import FileLocation
from restune.data.decode import DecodeError, decode_image
from restune.data.sources.folder import is_image_name
from restune.data.sources.walk import is_hidden

NOMINAL_RATE = 25
"""Frames per second of a folder of images, and of a stream that does not state its frame rate."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Times and size of a video's frames.

    Args:
        ticks: presentation time of each frame, in ticks; strictly increasing.
        tick: seconds per tick.
        width, height: size of an upright frame, pixels.
        keys: indices of the key frames, ascending from 0; decoding can start at these.
        key_sizes: bytes of the key frames' packets, used to recognise them after a seek.
        counted: whether decoded frames lack usable times, so that they are counted from the start.
        images: file names, if the video is a folder of images.
    """

    ticks: NDArray[np.int64]
    tick: float
    width: int
    height: int
    keys: NDArray[np.int64]
    key_sizes: NDArray[np.int64]
    counted: bool = False
    images: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ticks)

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """Time of each frame, in seconds from the first."""
        times: NDArray[np.float64] = (self.ticks - self.ticks[0]) * self.tick
        return times

    @cached_property
    def duration(self) -> float:
        """Seconds, with the median frame duration for the last frame."""
        return float(self.times[-1] + np.median(np.diff(self.times))) if len(self) > 1 else 0.0


def folder_timeline(folder: Path) -> Timeline:
    """Return the timeline of a folder of images, ordered by the numbers in their names, at `NOMINAL_RATE`.

    Raises DecodeError when there is no image that can be read.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if not is_hidden(entry.name) and is_image_name(entry.name)]
    except OSError as error:
        raise DecodeError(f"cannot read this folder: {error.strerror}") from error
    if not names:
        raise DecodeError("there are no images in this folder")
    images = tuple(sorted(names, key=_by_number))
    first = _nearest(images, 0, 0, lambda name: decode_image(FileLocation(folder / name).read()))
    count = len(images)
    return Timeline(
        ticks=np.arange(count),
        tick=1 / NOMINAL_RATE,
        width=first.shape[2],
        height=first.shape[1],
        keys=np.arange(count),
        key_sizes=np.zeros(count, np.int64),
        images=images,
    )


def read_images(
    folder: Path, timeline: Timeline, wanted: Sequence[int], fit: Callable[[Tensor], Tensor], channels: int
) -> Iterator[Tensor]:
    """Yield each wanted frame, fitted. An unreadable image is replaced by the readable one before it, or the first.

    Raises DecodeError when none can be read.
    """

    def read(name: str) -> Tensor:
        return decode_image(FileLocation(folder / name).read(), channels, then=fit)

    last, pixels = -1, None
    for index in wanted:
        if index != last:
            pixels = _nearest(timeline.images, index, last + 1, read, pixels)
            last = index
        assert pixels is not None  # the first index is never -1, so it was read
        yield pixels


def _nearest(
    images: Sequence[str], index: int, least: int, read: Callable[[str], Tensor], before: Tensor | None = None
) -> Tensor:
    """Return the image at `index`, else the nearest readable one down to `least`, else `before`, else the next one."""
    reason: Exception | None = None
    for at in (*range(index, least - 1, -1), *(range(index + 1, len(images)) if before is None else ())):
        try:
            return read(images[at])
        except (DecodeError, OSError, ValueError) as error:
            reason = reason or error
    if before is not None:
        return before
    raise DecodeError(f"none of the {len(images)} images in this folder can be read: {reason}")


def _by_number(name: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Return a sort key that puts frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", name[:1000])
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts), name
