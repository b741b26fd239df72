"""A video in memory, and limits on what reading it may cost."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field

from restune.data.decode import DecodeError


@dataclass(frozen=True, kw_only=True)
class VideoLimits:
    """What a video from an unknown source may be: a few bytes can encode hours of large frames.

    Args:
        frames: most frames.
        seconds: most seconds that it lasts.
        pixels: most pixels of a frame; decoders hold up to sixteen frames.
        reading: most seconds that reading it takes.
    """

    frames: int = 36_000
    seconds: float = 600.0
    pixels: int = 4096 * 2304
    reading: float = 10.0


@dataclass(frozen=True, eq=False)
class VideoBytes:
    """A video's encoded content, which `video.probe` and `video.read_frames` take in place of a path.

    Args:
        content: the file's bytes.
        limits: None: those of files.
        began: when reading began, in seconds of `time.monotonic`.

    >>> VideoBytes(b"RIFF").open().read()
    b'RIFF'
    """

    content: bytes = field(repr=False)
    limits: VideoLimits | None = None
    began: float = field(default_factory=time.monotonic)

    def open(self, mode: str = "rb") -> io.BytesIO:  # noqa: ARG002 (as `Path.open`)
        """Return the content as a file."""
        return io.BytesIO(self.content)

    def check_time(self) -> None:
        """Raise DecodeError if reading takes too long."""
        if self.limits is not None and time.monotonic() - self.began > self.limits.reading:
            raise DecodeError(f"reading it takes longer than {self.limits.reading:g} s")

    def check_frames(self, count: int) -> None:
        """Raise DecodeError if there are too many frames."""
        if self.limits is not None and count > self.limits.frames:
            raise DecodeError(f"it has more than {self.limits.frames:,} frames")

    def check_duration(self, seconds: float) -> None:
        """Raise DecodeError if it lasts too long."""
        if self.limits is not None and seconds > self.limits.seconds:
            raise DecodeError(f"it lasts longer than {self.limits.seconds:g} s")


@dataclass(frozen=True, slots=True)
class VideoContent:
    """The location of a video that arrived as bytes.

    Args:
        content: the file's bytes.
        limits: those of each reading.
    """

    content: bytes
    limits: VideoLimits = VideoLimits()

    def read(self) -> VideoBytes:
        """Return the content; its reading begins now."""
        return VideoBytes(self.content, self.limits)

    def signature(self) -> str:
        """Return the number of bytes."""
        return str(len(self.content))
