"""Videos: class folders of video files, or of folders of numbered frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from restune.core.errors import UserError, shorten
from restune.core.files import is_there
from restune.data.dataset import Dataset
from restune.data.sources.folder import from_named_files, is_image_name
from restune.data.sources.walk import is_hidden, walk_files

VIDEO_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mpeg", ".mpg", ".webm", ".mkv", ".gif"))


@dataclass(frozen=True, slots=True)
class ClipLocation:
    """A video file, or a folder that holds a video's frames as images."""

    path: Path

    def read(self) -> Path:
        """The path; whoever decodes the video reads only what it needs of it."""
        if not is_there(self.path):
            raise FileNotFoundError(f"there is no such file: {self.path}")
        if not (self.path.is_file() or self.path.is_dir()):  # a FIFO named .mp4 would block
            raise FileNotFoundError("it is neither a file nor a folder")
        return self.path

    def signature(self) -> str:
        """A file's size; of a folder how many images, and their size."""
        if not is_there(self.path):
            return "missing"
        if not self.path.is_dir():
            return str(self.path.stat().st_size)
        with os.scandir(self.path) as entries:
            sizes = [one.stat().st_size for one in entries if is_image_name(one.name) and not is_hidden(one.name)]
        return f"{len(sizes)}:{sum(sizes)}"


def is_video_name(name: str) -> bool:
    """Whether a name ends like a video's. A ``.gif`` does: where images are preloaded for too, they come first."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def looks_like_clips(folder: Path) -> bool:
    """Whether there are videos in a folder and no images beside them; GIFs may be either and say nothing.

    Folders of frames look like classes of images: that they are videos has to be named.
    """
    found = False
    for path in walk_files(folder, lambda name: is_video_name(name) or is_image_name(name)):
        if path.suffix.lower() == ".gif":
            continue
        if not is_video_name(path.name):
            return False
        found = True
    return found


def open_clips(folder: Path, *, kind_named: bool = False) -> Dataset:
    """Items of ``folder/[split/]class/**/video.mp4`` and, where the kind is named, ``.../clip/frame_1.jpg``.

    The frames in one folder are one item. Raises UserError on other layouts.
    """
    found = clips_below(folder) if kind_named else walk_files(folder, is_video_name)
    files = [(path.relative_to(folder).as_posix(), ClipLocation(path)) for path in found]
    if not files:
        raise UserError(
            "there are no videos here",
            where=str(folder),
            fix=f"restune reads class folders of files ending in {shorten(sorted(VIDEO_SUFFIXES), 30)}, "
            "and of folders of frames, such as DATA/class/clip/frame_1.jpg",
        )
    loose = [name for name, _ in files if "/" not in name]
    if loose:
        raise UserError(
            f"{len(loose)} videos lie outside any class folder, such as {loose[0]}",
            where=str(folder),
            fix="put each into a folder named for its class: DATA/class/clip.mp4, or DATA/class/clip/frame_1.jpg",
        )
    return replace(from_named_files(files, source=str(folder), noun="videos"), kind="video")


def clips_below(folder: Path) -> Iterator[Path]:
    """Video files, and folders that hold images and neither a video nor another such folder."""
    videos: list[Path] = []
    frames: dict[Path, None] = {}
    for path in walk_files(folder, lambda name: is_video_name(name) or is_image_name(name)):
        if is_video_name(path.name):
            videos.append(path)
        else:
            frames[path.parent] = None
    above = {parent for path in (*videos, *frames) for parent in path.parents}
    yield from sorted((*videos, *(path for path in frames if path not in above)))
