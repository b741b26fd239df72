"""Decode a .wav file to a mono series at a set sampling rate, in bounded memory."""

from __future__ import annotations

import io
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from restune.data.dataset import MAX_BYTES
from restune.data.pixels import DecodeError

MAX_VALUES = 10_000_000
"""Maximum values of one series."""
MAX_RATE = 384_000
"""Maximum sampling rate in Hz: a resampling filter's length is proportional to the rates."""

_UNKNOWN_SIZE = 2**32 - 1
"""Placeholder sizes written by programs that stream data of unknown length."""


def decode_wav(content: bytes, rate: int | None) -> NDArray[np.float32]:
    """Decode to float32 ``[L]`` in -1..1: the mean of the channels, resampled to `rate` unless it is None.

    Raises DecodeError for a file that is not .wav, is truncated or is too long.
    """
    if not content:
        raise DecodeError("the file is empty (0 bytes)")
    if len(content) > MAX_BYTES:
        raise DecodeError(f"the file has {len(content) / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20}")
    if content[:4] not in (b"RIFF", b"RIFX", b"RF64") or content[8:12] != b"WAVE":
        raise DecodeError("not a .wav file")
    recording = _recording(content)
    try:
        recorded, samples = wavfile.read(io.BytesIO(recording))
    except Exception as error:  # the reader raises arbitrary exceptions on a broken file
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise DecodeError(f"this .wav file cannot be read: {reason or type(error).__name__}") from error
    if not 1 <= recorded <= MAX_RATE:
        raise DecodeError(f"{recorded} samples per second is not a plausible sampling rate")
    if not samples.size:
        raise DecodeError("the recording is empty")
    if len(samples) > MAX_VALUES or (rate and len(samples) / recorded * rate > MAX_VALUES):
        raise DecodeError(f"the recording is longer than {MAX_VALUES:,} samples")
    return _resampled(_mono(samples), recorded, rate)


def _mono(samples: NDArray[np.generic]) -> NDArray[np.float32]:
    """Scale to full scale 1; bytes are unsigned around 128, 24-bit samples are in the upper bits of 32."""
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if kind not in "iuf" or (kind == "u" and size > 1):
        raise DecodeError(f"samples of type {samples.dtype} are not supported")
    with np.errstate(all="ignore"):
        mixed = samples.mean(axis=1, dtype=np.float64) if samples.ndim == 2 else samples.astype(np.float64)
        if kind == "u":
            mixed = (mixed - 128) / 128
        elif kind == "i":
            mixed = mixed / 2.0 ** (8 * size - 1)
        mono: NDArray[np.float32] = mixed.astype(np.float32)
    return mono


def _resampled(samples: NDArray[np.float32], recorded: int, rate: int | None) -> NDArray[np.float32]:
    if rate is None or rate == recorded:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, recorded)
    resampled: NDArray[np.float32] = resample_poly(samples, rate // common, recorded // common).astype(np.float32)
    return resampled


def _recording(content: bytes) -> bytes:
    """Return the file up to the end of its samples, without other chunks, of which scipy would warn.

    Raises DecodeError if there are fewer bytes of samples than the header says.
    """
    order: Literal["big", "little"] = "big" if content[:4] == b"RIFX" else "little"
    form, place = b"", 12
    while place + 8 <= len(content):
        size = int.from_bytes(content[place + 4 : place + 8], order)
        name, end = content[place : place + 4], place + 8 + size + size % 2
        if name == b"data":
            if size != _UNKNOWN_SIZE and place + 8 + size > len(content):
                raise DecodeError("the file ends inside the recording")
            if content[:4] == b"RF64":  # its sizes are stored elsewhere
                return content
            kept = b"WAVE" + form + content[place:end]
            return content[:4] + len(kept).to_bytes(4, order) + kept
        if name == b"fmt ":
            form = content[place:end]
        place = end
    raise DecodeError("there is no recording in this .wav file")
