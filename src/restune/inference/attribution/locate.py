"""Where the network's input lies in an item's content, for each kind of data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from restune.data.decode import upright_size
from restune.data.preprocess import Preprocess
from restune.data.preprocess.image import ImagePreprocess
from restune.data.preprocess.signal import SignalPreprocess
from restune.data.preprocess.text import TextPreprocess
from restune.data.preprocess.video import VideoPreprocess
from restune.inference.attribution.placement import Placement, image_placement, series_placement


@dataclass(frozen=True)
class Located:
    """The shape of a network's input, and where it lies in the original; see `Explanation`."""

    input_shape: tuple[int, ...]
    place: Placement | None = None
    characters: tuple[tuple[int, int], ...] = ()
    text: str | None = None


def located(content: Any, preprocess: Preprocess) -> Located:
    """Locate the network's input in the content of a readable item."""
    if isinstance(preprocess, ImagePreprocess):
        size = upright_size(content, preprocess.channels)
        return Located((preprocess.crop, preprocess.crop), image_placement(size, preprocess.resize, preprocess.crop))
    if isinstance(preprocess, SignalPreprocess):
        place = series_placement(preprocess.whole(content).shape[1], preprocess.length)
        start, end = place.seen[0]
        return Located((int(end - start),), place)
    if isinstance(preprocess, TextPreprocess):
        text, characters = preprocess.spans(content)
        return Located((len(characters),), characters=characters, text=text)
    assert isinstance(preprocess, VideoPreprocess)
    return Located((preprocess.frames, preprocess.crop, preprocess.crop))
