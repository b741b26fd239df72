"""A data set of motion made of real digits: what moves says nothing, how it moves is the class.

``python tests/motion.py OUT`` writes it, each clip a video file in the folder of its class. Where a digit starts, how
it is turned, how large and how fast it is are drawn from the same ranges for every class, and a motion run backwards is
another class: one frame says nearly nothing, and the same frames in another order say no more than their set.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np

DIRECTIONS = {"e": (1, 0), "ne": (1, -1), "n": (0, -1), "nw": (-1, -1)}
DIRECTIONS |= {"w": (-1, 0), "sw": (-1, 1), "s": (0, 1), "se": (1, 1)}
"""Right and down on the screen."""
CLASSES = (*(f"move_{name}" for name in sorted(DIRECTIONS)), "rotate_ccw", "rotate_cw", "zoom_in", "zoom_out")
RATE = 25


@cache
def _digits() -> np.ndarray:
    """``[1797, 8, 8]``, 0 to 1."""
    from sklearn.datasets import load_digits

    return (load_digits().images / 16).astype(np.float32)


def motion_frames(name: str, random: np.random.Generator, size: int = 48, frames: int = 16) -> np.ndarray:
    """uint8 ``[T, size, size, 3]`` of one clip of a class: a digit on a torus, so that it never leaves the frame."""
    digits = _digits()
    digit = digits[random.integers(len(digits))]
    x, y, angle = random.uniform(0, size), random.uniform(0, size), random.uniform(0, 2 * math.pi)
    small, large = 0.22 * size, 0.55 * size  # of the digit's side, pixels
    side = math.exp(random.uniform(math.log(small), math.log(large)))
    time = np.arange(frames, dtype=np.float32)
    xs, ys, angles, sides = np.full((4, frames), [[x], [y], [angle], [side]], np.float32)
    if name.startswith("move_"):
        dx, dy = DIRECTIONS[name.removeprefix("move_")]
        step = random.uniform(0.5, 1.0) * size / frames / math.hypot(dx, dy)
        xs, ys = x + dx * step * time, y + dy * step * time
    elif name.startswith("rotate_"):
        turn = random.uniform(0.4, 0.8) * 2 * math.pi / frames
        angles = angle + (turn if name == "rotate_cw" else -turn) * time
    else:
        growth = random.uniform(1.7, 2.3)
        start = math.exp(random.uniform(math.log(small), math.log(large / growth)))
        sides = (start * growth ** np.linspace(0, 1, frames)).astype(np.float32)
        sides = sides if name == "zoom_in" else sides[::-1]
    colour = random.uniform(120, 255, 3)
    background = random.uniform(0, 60, 3)
    shape = _draw(digit, xs, ys, angles, sides, size)[..., None]
    return (background + shape * (colour - background)).astype(np.uint8)


def _draw(digit: np.ndarray, xs, ys, angles, sides, size: int) -> np.ndarray:
    """``[T, size, size]``, 0 to 1: the digit at each place, bilinear, wrapped round the edges."""
    pixel = np.arange(size, dtype=np.float32)
    right = (pixel - xs[:, None] + size / 2) % size - size / 2  # [T, size], from the digit's centre
    down = (pixel - ys[:, None] + size / 2) % size - size / 2
    right, down = right[:, None, :], down[:, :, None]
    scale = (8 / sides)[:, None, None]
    cos, sin = (np.float32(f(angles))[:, None, None] * scale for f in (np.cos, np.sin))
    column = np.clip(cos * right + sin * down + 4.5, 0, 8.999)  # in the digit with a border of zeros
    row = np.clip(cos * down - sin * right + 4.5, 0, 8.999)
    left, top = column.astype(np.intp), row.astype(np.intp)
    column, row = column - left, row - top
    flat, at = np.pad(digit, 1).ravel(), top * 10 + left
    upper = flat[at] * (1 - column) + flat[at + 1] * column
    lower = flat[at + 10] * (1 - column) + flat[at + 11] * column
    return upper * (1 - row) + lower * row


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    ticks: Sequence[int] | None = None,
    tick: Fraction = Fraction(1, RATE),
    rotation: int = 0,
    flip: bool = False,
    codec: str = "",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """A video file of uint8 frames ``[T, H, W, 3]``; its form is the suffix's.

    Args:
        ticks: when each frame is shown, in units of `tick`, which is in seconds; by default one after the other.
        rotation: degrees, counter-clockwise, by which a player turns it; then mirrored left-right with `flip`.
        codec: H.264 by default, MPEG-4 where that is not to be had.
        options: of the encoder.
        container: of the file, such as ``movflags``.
    """
    import av

    if not codec:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    defaults = {"preset": "ultrafast", "crf": "12", "x264-params": "log-level=none"} if codec == "libx264" else {}
    with av.open(str(path), "w", container_options=container or {}) as file:
        stream = file.add_stream(
            codec, rate=round(1 / tick) if ticks is None else RATE, options=defaults | (options or {})
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.thread_count = pixels, 1
        if ticks is not None:
            stream.codec_context.time_base = tick
        if rotation or flip:
            stream.set_display_rotation(rotation, hflip=flip)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number if ticks is None else ticks[number], tick
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_motion(
    folder: Path,
    clips_per_class: int,
    seed: int = 0,
    size: int = 48,
    frames: int = 16,
    suffix: str = ".mp4",
    shuffled: bool = False,
) -> Path:
    """The data set as ``folder/class/number.mp4``, the same for the same arguments; the frames of each clip in a random
    order, where that is asked for."""
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(clips_per_class):
            random = np.random.default_rng((seed, place, number))
            clip = motion_frames(name, random, size, frames)
            clip = random.permutation(clip) if shuffled else clip
            write_video(folder / name / f"{number:04d}{suffix}", clip)
    return folder


def main() -> None:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for option, value in (("clips-per-class", 40), ("seed", 0), ("size", 48), ("frames", 16)):
        parser.add_argument(f"--{option}", type=int, default=value)
    chosen = parser.parse_args()
    write_motion(chosen.folder, chosen.clips_per_class, chosen.seed, chosen.size, chosen.frames)


if __name__ == "__main__":
    main()
