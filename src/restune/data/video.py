"""Read frames of a video at given positions: decoded in order, set upright, in bounded memory.

PyAV decodes files and bytes in memory; `frames` reads folders of images.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, lru_cache, partial
from itertools import chain, dropwhile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.core.errors import UserError
from restune.data.decode import DecodeError, max_pixels
from restune.data.frames import NOMINAL_RATE, Timeline, folder_timeline, read_images
from restune.data.video_bytes import VideoBytes

if TYPE_CHECKING:
    from av.buffer import Buffer
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Source = Path | VideoBytes

MAX_FRAMES = 10_000_000
"""Maximum frames of a video: more than four days at 25 per second."""

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,gif,ogg,flv,asf,h264,hevc,m4v"
"""Formats that libav may recognise, by content. Others are off: a playlist, for one, makes libav open other files."""

_FAR = 64
"""Seek to a wanted frame's key frame if it is more than this many frames ahead; else decode the frames in between."""

_ABSENT = -(2**63)


def probe(path: Source) -> Timeline:
    """Return the timeline of a video file, of a video in memory, or of a folder of images.

    Packets are counted and only the first frame is decoded: the length in the file's header is not trusted. A
    truncated file has the frames that are in it. Raises DecodeError if nothing can be decoded, UserError if PyAV is
    not installed.
    """
    if isinstance(path, VideoBytes):
        if not path.content:
            raise DecodeError("the file is empty (0 bytes)")
        return _indexed(path)
    try:
        status = path.stat()
        if path.is_dir():
            return _probe_folder(path, status.st_mtime_ns)
        if not path.is_file():  # a FIFO would block
            raise DecodeError("it is neither a file nor a folder of images")
        if not status.st_size:
            raise DecodeError("the file is empty (0 bytes)")
        return _probe_file(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DecodeError(f"cannot read it: {error.strerror or error}") from error


def read_frames(
    path: Source, timeline: Timeline, wanted: Sequence[int], fit: Callable[[Tensor], Tensor], channels: int = 3
) -> Iterator[Tensor]:
    """Yield each wanted frame of a video, fitted; frames decoded in between are discarded.

    A frame that cannot be decoded is replaced by the one shown before it, or by the first that can be decoded. The
    pixels of a frame do not depend on which others are wanted.

    Args:
        timeline: from `probe`.
        wanted: positions in the timeline, in non-decreasing order.
        fit: resizes one upright frame, uint8 ``[channels, H, W]``.
        channels: 3 for RGB, 1 for luma.

    Raises DecodeError if nothing can be decoded.
    """
    if channels not in (1, 3):
        raise DecodeError(f"a video has 1 or 3 channels, the model expects {channels}")
    if timeline.images:
        assert isinstance(path, Path)
        yield from read_images(path, timeline, wanted, fit, channels)
        return
    for run in _runs(timeline, wanted):
        yield from _read_run(path, timeline, run, fit, channels)


@lru_cache(maxsize=64)  # readers of a video ask for its timeline several times in a row
def _probe_file(path: Path, size: int, changed: int) -> Timeline:  # noqa: ARG001
    return _indexed(path)


def _indexed(source: Source) -> Timeline:
    with _opened(source) as (container, stream):
        index = _PacketIndex(stream)
        for packet in _packets(container, stream):
            index.add(packet)
            if isinstance(source, VideoBytes):
                source.check_frames(len(index))
                source.check_time()
        index.finish()
    timeline = index.timeline()
    if isinstance(source, VideoBytes):
        source.check_duration(timeline.duration)
    return timeline


@lru_cache(maxsize=64)
def _probe_folder(path: Path, changed: int) -> Timeline:  # noqa: ARG001
    return folder_timeline(path)


class _PacketIndex:
    """Times, sizes and key flags of a stream's packets, and the size of the first frame that can be decoded."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._shown, self._order, self._sizes, self._keys = array("q"), array("q"), array("q"), array("b")
        self._size: tuple[int, ...] = ()  # height, width

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, packet: Packet[VideoStream]) -> None:
        if not self._size:
            self._see(_decode(packet.decode))
        if packet.is_discard:  # decoded, never shown
            return
        if len(self._keys) >= MAX_FRAMES:
            raise DecodeError(f"it has more than {MAX_FRAMES:,} frames")
        self._shown.append(_ABSENT if packet.pts is None else packet.pts)
        self._order.append(_ABSENT if packet.dts is None else packet.dts)
        self._sizes.append(packet.size)
        self._keys.append(packet.is_keyframe)

    def finish(self) -> None:
        """Flush the decoder after the last packet."""
        if not self._size:
            self._see(_decode(self._stream.decode))

    def _see(self, frames: Sequence[VideoFrame]) -> None:
        if frames:
            self._size = _upright(np.empty((frames[0].height, frames[0].width)), frames[0]).shape

    def timeline(self) -> Timeline:
        """Build the timeline. Raises DecodeError if no frame could be decoded."""
        if not self._size or not self._keys:
            raise DecodeError("no frame of this video can be decoded")
        shown, order, sizes = (np.array(values) for values in (self._shown, self._order, self._sizes))
        keys = np.array(self._keys, bool)
        tick = float(self._stream.time_base or 0)
        height, width = self._size
        # AVI packets are numbered in decoding order, even if these numbers are called presentation times.
        counted = self._stream.container.format.name == "avi" or not (tick > 0 and _all_differ(shown) and _grow(order))
        if counted:
            ticks, tick = self._counted(order, tick)
            return Timeline(ticks, tick, width, height, np.zeros(1, np.int64), sizes[:1], counted=True)
        rank = np.argsort(shown, kind="stable")
        ticks, keys, sizes = shown[rank], np.flatnonzero(keys[rank]), sizes[rank]
        if not len(keys) or keys[0] != 0:
            keys = np.concatenate([np.zeros(1, np.int64), keys])
        return Timeline(ticks, tick, width, height, keys, sizes[keys])

    def _counted(self, order: NDArray[np.int64], tick: float) -> tuple[NDArray[np.int64], float]:
        """Return frame times from the decoding times if these are usable, else from the frame rate."""
        if tick > 0 and _all_differ(order) and _grow(order):
            return order, tick
        rate = float(self._stream.average_rate or 0)
        return np.arange(len(order)), 1 / (rate if 0 < rate < 10_000 else NOMINAL_RATE)


def _all_differ(ticks: NDArray[np.int64]) -> bool:
    return not np.any(ticks == _ABSENT) and len(np.unique(ticks)) == len(ticks)


def _grow(ticks: NDArray[np.int64]) -> bool:
    """Return whether times never decrease, as they do if recordings were joined; absent times are ignored."""
    return bool(np.all(np.diff(ticks[ticks != _ABSENT]) >= 0))


def _runs(timeline: Timeline, wanted: Sequence[int]) -> Iterator[list[int]]:
    """Yield wanted frames in groups; a new group starts where a seek saves decoding."""
    run: list[int] = []
    for index in wanted:
        if run and timeline.keys[_key_before(timeline, index)] > run[-1] + _FAR:
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def _key_before(timeline: Timeline, index: int) -> int:
    return int(np.searchsorted(timeline.keys, index, side="right")) - 1


def _read_run(
    path: Source, timeline: Timeline, wanted: Sequence[int], fit: Callable[[Tensor], Tensor], channels: int
) -> Iterator[Tensor]:
    waiting, before = 0, None
    for index, frame in _decoded_before(path, timeline, wanted[0]):
        now = cache(partial(_fitted, frame, fit, channels))
        while wanted[waiting] <= index:
            yield now() if before is None or wanted[waiting] == index else before()
            waiting += 1
            if waiting == len(wanted):
                return
        before = now
    if before is None:
        raise DecodeError("no frame of this video can be decoded")
    for _ in wanted[waiting:]:
        yield before()


def _fitted(frame: VideoFrame, fit: Callable[[Tensor], Tensor], channels: int) -> Tensor:
    return fit(_pixels(frame, channels))


def _decoded_before(path: Source, timeline: Timeline, index: int) -> Iterator[tuple[int, VideoFrame]]:
    """Return positions and frames from the last key frame up to `index` on; from the start if that one is broken."""
    for key in (_key_before(timeline, index), 0):
        frames = _decoded(path, timeline, key)
        first = next(frames, None)
        if first is not None and (first[0] <= index or key == 0):
            return chain([first], frames)
    return iter(())


def _decoded(path: Source, timeline: Timeline, key: int) -> Iterator[tuple[int, VideoFrame]]:
    """Yield positions in the timeline, ascending, and their frames, from key frame number `key` on."""
    for seek in (True, False) if key else (False,):
        with _opened(path) as (container, stream):
            packets = _packets(container, stream)
            if seek:
                with suppress(Exception):  # a file that cannot seek is read from its start
                    # One key frame early: some containers seek by decoding time.
                    container.seek(int(timeline.ticks[timeline.keys[key - 1]]), stream=stream)
            if key:
                packets = dropwhile(lambda packet: not _is_key(packet, timeline, key), packets)
                first = next(packets, None)
                if first is None:
                    continue
                packets = chain([first], packets)
            yield from _placed(_frames(path, stream, packets), timeline, key)
            return


def _is_key(packet: Packet[VideoStream], timeline: Timeline, key: int) -> bool:
    return packet.pts == int(timeline.ticks[timeline.keys[key]]) and packet.size == int(timeline.key_sizes[key])


def _placed(frames: Iterator[VideoFrame], timeline: Timeline, key: int) -> Iterator[tuple[int, VideoFrame]]:
    """Yield positions and frames; drop frames without a time or before the key frame: those need earlier frames."""
    last, end = int(timeline.keys[key]) - 1, len(timeline) - 1
    for number, frame in enumerate(frames):
        if timeline.counted:
            index = min(number, end)
        elif frame.pts is None:
            continue
        else:
            index = int(np.searchsorted(timeline.ticks, frame.pts, side="right")) - 1
        if index > last:
            yield index, frame
            last = index


def _frames(source: Source, stream: VideoStream, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
    for packet in packets:
        if isinstance(source, VideoBytes):
            source.check_time()
        yield from _decode(packet.decode)
    yield from _decode(stream.decode)


def _decode(call: Callable[[], list[VideoFrame]]) -> list[VideoFrame]:
    """Return the frames that a decoder has ready; none if the packet is broken."""
    try:
        return call()
    except Exception:  # broken files make PyAV raise exceptions of many types
        return []


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield packets in decoding order until the file ends or breaks off; skip empty ones, which flush the decoder."""
    with suppress(Exception):  # as in `_decode`
        for packet in container.demux(stream):
            if packet.size:
                yield packet


@contextmanager
def _opened(path: Source) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the file and its first video stream; decode with one thread, since callers use several."""
    av = _pyav()
    limits = {"max_pixels": str(_most_pixels(path))}
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            options = {"format_whitelist": _FORMATS, **limits}
            container = stack.enter_context(av.open(file, options=options, metadata_errors="replace"))
        except OSError as error:
            raise DecodeError(f"cannot read it: {error.strerror or error}") from error
        except Exception as error:  # as in `_decode`
            raise DecodeError(_no_video(path)) from error
        stream = _first_video(container)
        _reject_large(stream.codec_context.width, stream.codec_context.height, _most_pixels(path))
        stream.codec_context.options = limits
        stream.thread_type, stream.thread_count = "NONE", 1
        yield container, stream


def _first_video(container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    streams = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
    if not streams:
        raise DecodeError("there is no video in this file")
    stream = streams[0]
    if stream.codec_context is None:
        raise DecodeError("this video's codec cannot be decoded here")
    return stream


def _most_pixels(source: Source) -> int:
    limits = source.limits if isinstance(source, VideoBytes) else None
    return max_pixels() if limits is None else min(limits.pixels, max_pixels())


def _reject_large(width: int, height: int, most: int) -> None:
    if width * height > most == max_pixels():
        raise DecodeError(
            f"{width}x{height} is too many pixels (the limit is {max_pixels():,}; RESTUNE_MAX_PIXELS sets another)"
        )
    if width * height > most:
        raise DecodeError(f"{width}x{height} is too many pixels for a frame (the limit is {most:,})")


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"reading videos needs PyAV, which cannot be imported: {error}", fix="pip install 'restune[video]'"
        ) from error
    return av


def _no_video(path: Source) -> str:
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not a video (it starts like HTML)"
    return "not a video in a known format, or cut before its index"


def _pixels(frame: VideoFrame, channels: int) -> Tensor:
    """Convert a frame to uint8 ``[channels, H, W]``, upright; transparency is blended with white, as for images."""
    _reject_large(frame.width, frame.height, max_pixels())
    if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
        array = _over_white(_array(frame, "rgba"))
        if channels == 1:
            array = (array @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)  # ITU-R 601-2, as for images
    else:
        array = _array(frame, "rgb24" if channels == 3 else "gray")
    pixels = torch.from_numpy(np.ascontiguousarray(_upright(array, frame)))
    return pixels.view(*pixels.shape[:2], channels).permute(2, 0, 1)


def _array(frame: VideoFrame, layout: str) -> NDArray[np.uint8]:
    """Return ``[H, W, C]``, or ``[H, W]`` for greyscale."""
    return frame.to_ndarray(format=layout, threads=1).view(np.uint8)


def _over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(array: NDArray[Any], frame: VideoFrame) -> NDArray[Any]:
    """Rotate and mirror ``[H, W, ...]`` by the file's display matrix, which phones use to store their orientation."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return array
    # Screen x is a * x + c * y, screen y is b * x + d * y; other angles are rounded to a quarter turn.
    a, b, _, c, d = np.frombuffer(bytes(cast("Buffer", matrix)), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        array, a, d = array.swapaxes(0, 1), c, b
    return array[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
