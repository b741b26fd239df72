"""Videos: class folders of video files, or of folders of numbered frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from restune.core.errors import UserError, shorten
from restune.core.files import is_there
from restune.data import not_taken
from restune.data.dataset import Dataset
from restune.data.sources.folder import from_named_files, is_image_name
from restune.data.sources.walk import is_hidden, suffix_of, walk_files

_SUFFIXES = (
    "mp4 m4v mov qt avi divx mpeg mpg mpe m1v m2v mpv webm mkv mk3d gif 3gp 3gpp 3g2 mj2 flv f4v wmv asf ogv ogm "
    "vob mod mts m2ts m2t h264 264 h265 265 hevc"
)
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Containers that `video` reads, except ``.ts``, which may also hold series: see `is_transport_stream`."""
_PACKET = 188
"""Bytes per packet of an MPEG transport stream; each packet begins with the byte 0x47."""


@dataclass(frozen=True, slots=True)
class ClipLocation:
    """A video file, or a folder that holds a video's frames as images."""

    path: Path

    def read(self) -> Path:
        """Return the path; the decoder reads only the frames that it needs."""
        if not is_there(self.path):
            raise FileNotFoundError(f"there is no such file: {self.path}")
        if not (self.path.is_file() or self.path.is_dir()):  # a FIFO named .mp4 would block
            raise FileNotFoundError("it is neither a file nor a folder")
        return self.path

    def signature(self) -> str:
        """Return the size of a file, or the number and total size of a folder's images."""
        if not is_there(self.path):
            return "missing"
        if not self.path.is_dir():
            return str(self.path.stat().st_size)
        with os.scandir(self.path) as entries:
            sizes = [one.stat().st_size for one in entries if is_image_name(one.name) and not is_hidden(one.name)]
        return f"{len(sizes)}:{sum(sizes)}"


def is_video_name(name: str) -> bool:
    """Return whether a name has a video suffix. ``.gif`` is one: where images are sought too, check them first."""
    return suffix_of(name) in VIDEO_SUFFIXES


def is_transport_stream(path: Path) -> bool:
    """Return whether a ``.ts`` file is a video (MPEG transport stream) and not a file of series."""
    try:
        with path.open("rb") as file:
            head = file.read(3 * _PACKET)
    except OSError:
        return False
    return len(head) == 3 * _PACKET and set(head[::_PACKET]) == {0x47}


def _walk_videos(folder: Path, *, images: bool = False) -> Iterator[Path]:
    """List the videos under a folder, and the images if requested, in order. Raises UserError."""
    for path in walk_files(
        folder,
        lambda name: is_video_name(name) or name.lower().endswith(".ts") or (images and is_image_name(name)),
    ):
        if path.suffix.lower() != ".ts" or is_transport_stream(path):
            yield path
        else:
            not_taken.add_name(path.relative_to(folder).as_posix())


def _is_clip(path: Path) -> bool:
    return is_video_name(path.name) or path.suffix.lower() == ".ts"


def looks_like_clips(folder: Path) -> bool:
    """Return whether a folder has videos and no images; GIFs may be either and are ignored.

    Folders of frames look like class folders of images: they need an explicit kind.
    """
    found = False
    for path in _walk_videos(folder, images=True):
        if path.suffix.lower() == ".gif":
            continue
        if not _is_clip(path):
            return False
        found = True
    return found


def open_clips(folder: Path, *, kind_named: bool = False) -> Dataset:
    """Open ``folder/[split/]class/**/video.mp4`` and, with an explicit kind, ``.../clip/frame_1.jpg``.

    The frames in one folder are one item. Raises UserError on other layouts.
    """
    found = clips_below(folder) if kind_named else _walk_videos(folder)
    files = [(path.relative_to(folder).as_posix(), ClipLocation(path)) for path in found]
    if not files:
        raise UserError(
            f"there are no videos here{not_taken.described(not_taken.current())}",
            where=str(folder),
            fix=f"restune reads class folders of files ending in {shorten(sorted(VIDEO_SUFFIXES), 50)}, "
            "and of folders of frames, such as DATA/class/clip/frame_1.jpg",
        )
    return replace(from_named_files(files, source=str(folder), noun="videos"), kind="video")


def clips_below(folder: Path) -> Iterator[Path]:
    """List video files, and folders that hold images but neither a video nor another such folder."""
    videos: list[Path] = []
    frames: dict[Path, None] = {}
    for path in _walk_videos(folder, images=True):
        if _is_clip(path):
            videos.append(path)
        else:
            frames[path.parent] = None
    above = {parent for path in (*videos, *frames) for parent in path.parents}
    yield from sorted((*videos, *(path for path in frames if path not in above)))
