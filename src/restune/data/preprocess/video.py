"""Preprocess videos: sample frames in time, resize, centre-crop, normalise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from restune.core.errors import UserError, did_you_mean
from restune.core.machine import memory_bytes
from restune.data.preprocess.image import INTERPOLATIONS, array_channels
from restune.data.preprocess.settings import averaged, framed, is_whole, named_changes, per_channel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from restune.data.augment import Augment, RandomKey
    from restune.data.dataset import Dataset, Item
    from restune.data.frames import Timeline
    from restune.data.video_bytes import VideoBytes

    Content = str | Path | bytes | VideoBytes
    from restune.data.preprocess.base import InputSettings, Preprocess
    from restune.networks.spec import ResNetSpec

KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
KINETICS_STD = (0.22803, 0.22145, 0.216989)
"""torchvision's values for its Kinetics-400 weights."""

_MOST_PIXELS = 2**30
"""Maximum pixels of a resized clip (frames x height x width)."""

_SETTINGS = ("image_size", "crop", "interpolation", "mean", "std", "frames", "rate", "stride", "clips")

_ROUNDING = 1e-3
"""Seconds. Some containers round frame times to milliseconds; the tolerance keeps such a frame in its own sample."""


@dataclass(frozen=True, kw_only=True)
class VideoPreprocess:
    """Sample frames in time, resize, centre-crop, scale to 0..1, normalise.

    The *timeline* of a video is every `stride`-th of its frames sampled at `rate` per second. A clip is `frames`
    consecutive frames of the timeline. If the timeline is shorter, its last frame is repeated.

    Args:
        frames: frames per clip.
        rate: frames per second; None: the file's own frames, whatever their times.
        stride: temporal stride: every stride-th sampled frame is kept.
        crop: side of the square network input, pixels.
        resize: shorter side of a frame before the centre crop, pixels; None: the whole frame is resized to
            ``crop x crop``, whatever its aspect ratio.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``, with antialiasing.
        mean, std: one value per channel, for pixels in 0..1; their length is the number of channels.
        clips: clips per video in evaluation, spread evenly over the video.
    """

    frames: int = 16
    rate: float | None = None
    stride: int = 1
    crop: int = 112
    resize: int | None = 128
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = KINETICS_MEAN
    std: tuple[float, ...] = KINETICS_STD
    clips: int = 3
    kind: str = "video"

    def __post_init__(self) -> None:
        _check_sampling(self)
        _check_pixels(self)

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return len(self.mean)

    @property
    def image_size(self) -> int:
        """Side of the square network input, pixels."""
        return self.crop

    @property
    def has_fixed_shape(self) -> bool:
        """True: all clips have the same shape."""
        return True

    def apply(self, content: Content) -> Tensor:
        """Return the middle clip of a video file, its bytes or a folder of images, uint8 ``[C, T, crop, crop]``.

        Raises `decode.DecodeError`.
        """
        path, timeline = _probed(content)
        start = (self._starts(self._count(timeline)) - 1) // 2
        return self._render(path, timeline, self._clip(start, self._count(timeline)), cropped=True)

    def raw_clip(self, content: Content) -> Tensor:
        """Return the frames of `apply` at their own size, uint8 ``[C, T, H, W]``. Raises `decode.DecodeError`."""
        import torch

        from restune.data.video import read_frames

        path, timeline = _probed(content)
        count = self._count(timeline)
        positions = self._clip((self._starts(count) - 1) // 2, count)
        wanted, slots = np.unique(self._own_frames(timeline, positions), return_inverse=True)
        frames = list(read_frames(path, timeline, wanted.tolist(), lambda pixels: pixels, self.channels))
        return torch.stack([frames[slot] for slot in slots], dim=1)

    def views(self, content: Content, mode: str) -> Tensor:
        """Return uint8 ``[V, C, T, crop, crop]``: `clips` clips with ``spread``, the middle clip with ``single``.

        Raises `decode.DecodeError`.
        """
        return self.spread(content) if mode == "spread" else self.apply(content).unsqueeze(0)

    def cost(self, mode: str) -> int:
        """Count a clip as four images."""
        return 4 * (self.clips if mode == "spread" else 1)

    def whole_bytes(self, content: Content) -> int:
        """Return the size of `whole` in bytes. Raises `decode.DecodeError`."""
        _, timeline = _probed(content)
        height, width = self._size(timeline)
        return self.channels * self._count(timeline) * height * width

    def whole(self, content: Content) -> Tensor:
        """Decode the whole timeline to uint8 ``[C, T, h, w]``, resized but not cropped.

        Raises `decode.DecodeError`, also if it takes more than half of the machine's memory: check `whole_bytes` first.
        """
        path, timeline = _probed(content)
        size = self.whole_bytes(path)
        if size > memory_bytes() // 2:
            raise _too_large(size)
        return self._render(path, timeline, np.arange(self._count(timeline)), cropped=False)

    def whole_if(self, content: Content, fits: Callable[[int], bool]) -> Tensor | None:
        """Return `whole` if its size in bytes fits; else None, after decoding one clip as a check.

        Raises `decode.DecodeError`.
        """
        if fits(self.whole_bytes(content)):
            return self.whole(content)
        self.apply(content)
        return None

    def view(self, whole: Tensor) -> Tensor:
        """Cut the clip of `apply` from a whole: ``[C, T, h, w]`` to ``[C, T, crop, crop]``."""
        start = (self._starts(whole.shape[1]) - 1) // 2
        return self.center(whole[:, self._clip(start, whole.shape[1])])

    def clip_of(self, content: Content, share: float) -> Tensor:
        """Decode one clip to uint8 ``[C, T, h, w]``, not cropped; only its frames are in memory.

        Args:
            share: start of the clip, from 0 (first possible start) to below 1 (last).

        Raises `decode.DecodeError`.
        """
        path, timeline = _probed(content)
        count = self._count(timeline)
        return self._render(path, timeline, self._clip(self._start(share, count), count), cropped=False)

    def window(self, whole: Tensor, share: float) -> Tensor:
        """Cut the clip of `clip_of` from a whole."""
        count = whole.shape[1]
        return whole[:, self._clip(self._start(share, count), count)]

    def spread(self, content: Content) -> Tensor:
        """Return clips spread evenly from start to end, uint8 ``[clips, C, T, crop, crop]``.

        A single clip is the middle one; clips of a short video overlap or are equal. Raises `decode.DecodeError`.
        """
        path, timeline = _probed(content)
        count = self._count(timeline)
        last = self._starts(count) - 1
        starts = [last // 2] if self.clips == 1 else [last * n // (self.clips - 1) for n in range(self.clips)]
        positions = np.stack([self._clip(start, count) for start in starts])
        return self._render(path, timeline, positions, cropped=True).transpose(0, 1)

    def needs_wholes(self, augment: Augment) -> bool:  # noqa: ARG002
        """Return True: training clips start anywhere in a video."""
        return True

    def training_source(
        self,
        cached: Tensor | None,
        read: Callable[[], Tensor],  # noqa: ARG002
        content: Callable[[], Any],
        key: RandomKey,
    ) -> Tensor:
        """Return a random clip, uint8 ``[C, T, h, w]``, from memory if the video is there, else from its file."""
        share = float(key.draw("clip", 1)[0, 0])
        return self.clip_of(content(), share) if cached is None else self.window(cached, share)

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """Return the augmented batch, uint8 ``[N, C, T, crop, crop]``; all frames of a clip are augmented alike."""
        from restune.data.augment import augment_pixels, random_crops

        if augment.crop_scale is not None:
            frames = [clip.transpose(0, 1) for clip in sources]  # [T, C, h, w]
            images = random_crops(frames, augment, self.crop, self.interpolation, key)
        else:
            images = self.stack([self.center(clip).transpose(0, 1) for clip in sources])
        return augment_pixels(images, augment, key).transpose(1, 2).contiguous()

    def fit(self, items: Sequence[Item], settings: InputSettings) -> VideoPreprocess:  # noqa: ARG002
        """Return this preprocessing unchanged: mean and std are those of the weights or of Kinetics."""
        return self

    def draft(self) -> None:
        """Return None: items are decoded alike before and after `fit`."""

    def spec_fields(self) -> dict[str, Any]:
        """Return the network's input channels."""
        return {"in_channels": self.channels}

    def center(self, clip: Tensor) -> Tensor:
        """Crop the centre: ``[C, T, h, w]`` to ``[C, T, crop, crop]``."""
        height, width = clip.shape[2:]
        top, left = round((height - self.crop) / 2.0), round((width - self.crop) / 2.0)  # as `resize_and_crop`
        return clip[:, :, top : top + self.crop, left : left + self.crop]

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """Stack samples to uint8 ``[N, C, T, crop, crop]``."""
        import torch

        return torch.stack(list(samples))

    def inputs(self, batch: Tensor) -> tuple[Tensor, None]:
        """Return the normalised clips and no mask, since clips are not padded."""
        return self.normalize(batch), None

    def normalize(self, clips: Tensor) -> Tensor:
        """Normalise uint8 clips to float32 ``[N, C, T, H, W]``, on their device."""
        import torch

        shape = (1, self.channels, 1, 1, 1)
        mean = torch.tensor(self.mean, device=clips.device).view(shape)
        std = torch.tensor(self.std, device=clips.device).view(shape)
        return clips.float().div_(255).sub_(mean).div_(std)

    def override(self, **changes: Any) -> VideoPreprocess:
        """Return a copy with some settings changed; None leaves a setting unchanged.

        Args:
            image_size: new `crop`; `resize` keeps its ratio to it.
            crop: share of the resized shorter side that the centre crop keeps; 0: no crop, the whole frame is
                resized to the square.
            interpolation, frames, stride, clips: as the fields.
            rate: as the field; 0: the file's own frames.
            mean, std: as the fields; a single number applies to all channels.

        Raises UserError for a setting that videos do not have.
        """
        wanted = named_changes(changes, _SETTINGS, self.kind)
        crop, resize = framed(self.crop, self.resize, wanted.pop("image_size", None), wanted.pop("crop", None))
        for name in ("mean", "std"):
            if name in wanted:
                wanted[name] = per_channel(wanted[name], self.channels, f"--{name}")
        if wanted.get("rate") == 0:
            wanted["rate"] = None
        return replace(self, crop=crop, resize=resize, **wanted)

    def with_channels(self, channels: int) -> VideoPreprocess:
        """Return a copy for another number of channels, each with the average of the present mean and std."""
        return replace(self, mean=averaged(self.mean, channels), std=averaged(self.std, channels))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `stored.preprocess_from_dict` is the inverse."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def __str__(self) -> str:
        when = "the file's own" if self.rate is None else f"{self.rate:g} per second"
        every = "" if self.stride == 1 else f", temporal stride {self.stride}"
        how = "whole frame" if self.resize is None else f"shorter side to {self.resize}, centre crop"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return (
            f"{self.frames} frames ({when}{every}) of {self.crop} pixels ({how}, {self.interpolation}), "
            f"mean {mean}, std {std}, {self.clips} clips per video"
        )

    def _count(self, timeline: Timeline) -> int:
        """Return the number of frames of the sampled timeline."""
        sampled = len(timeline)
        if self.rate is not None:  # up to the time of the last frame, and for as long as it is shown
            until = int((float(timeline.times[-1]) + _ROUNDING) * self.rate) + 1
            sampled = max(until, round(timeline.duration * self.rate))
        return -(-sampled // self.stride)

    def _starts(self, count: int) -> int:
        """Return the number of positions where a clip can start."""
        return max(1, count - self.frames + 1)

    def _start(self, share: float, count: int) -> int:
        starts = self._starts(count)
        return min(int(share * starts), starts - 1)

    def _clip(self, start: int, count: int) -> NDArray[np.int64]:
        """Return a clip's positions on the sampled timeline; the last one repeats beyond its end."""
        return np.minimum(start + np.arange(self.frames), count - 1)

    def _own_frames(self, timeline: Timeline, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of the file's frame shown at each position of the sampled timeline."""
        if self.rate is None:
            return positions * self.stride
        seconds = positions * self.stride / self.rate
        return np.maximum(np.searchsorted(timeline.times, seconds + _ROUNDING, side="right") - 1, 0)

    def _size(self, timeline: Timeline) -> tuple[int, int]:
        """Return the height and width of resized frames."""
        if self.resize is None:
            return self.crop, self.crop
        longest = min(timeline.height, timeline.width) * self.longest_aspect()
        height, width = min(timeline.height, longest), min(timeline.width, longest)
        short = min(height, width)
        return (
            self.resize if height == short else int(self.resize * height / short),
            self.resize if width == short else int(self.resize * width / short),
        )

    def longest_aspect(self) -> int:
        """Return the maximum aspect ratio of a frame; a longer frame is cut to its middle, as images are."""
        assert self.resize is not None
        return max(2, min(16, _MOST_PIXELS // (self.resize**2 * self.frames)))

    def _render(
        self, path: Path | VideoBytes, timeline: Timeline, positions: NDArray[np.int64], *, cropped: bool
    ) -> Tensor:
        """Decode each frame once, at its final size only, to uint8 ``[C, *positions.shape, h, w]``."""
        import torch

        from restune.data.resize import centre_of_strip, resize_to
        from restune.data.video import read_frames

        height, width = self._size(timeline)

        def fit(pixels: Tensor) -> Tensor:
            if self.resize is not None:
                pixels = centre_of_strip(pixels, self.longest_aspect())
            resized = resize_to(pixels, height, width, self.interpolation)
            return self.center(resized.unsqueeze(1)).squeeze(1) if cropped else resized

        wanted, slots = np.unique(self._own_frames(timeline, positions), return_inverse=True)
        shape = (self.crop, self.crop) if cropped else (height, width)
        clip = torch.empty(self.channels, len(wanted), *shape, dtype=torch.uint8)
        for slot, pixels in enumerate(read_frames(path, timeline, wanted.tolist(), fit, self.channels)):
            clip[:, slot] = pixels
        if positions.ndim == 1 and len(wanted) == len(positions):
            return clip
        return clip[:, torch.from_numpy(slots.reshape(positions.shape))]


def _probed(content: Content) -> tuple[Path | VideoBytes, Timeline]:
    from restune.data.video import probe
    from restune.data.video_bytes import VideoBytes

    source = VideoBytes(content) if isinstance(content, bytes) else content
    source = Path(source) if isinstance(source, str) else source
    return source, probe(source)


def _too_large(size: int) -> Exception:
    from restune.data.pixels import DecodeError

    return DecodeError(f"the whole video takes {size / 2**20:.0f} MiB, more than half of this machine's memory")


def _check_sampling(settings: VideoPreprocess) -> None:
    for option, value, most in (
        ("frames", settings.frames, 4096),
        ("stride", settings.stride, 4096),
        ("clips", settings.clips, 256),
    ):
        if not is_whole(value, 1, most):
            raise UserError(f"{option} must be a whole number from 1 to {most}, not {value!r}", where=f"--{option}")
    rate = settings.rate
    if rate is not None and not (isinstance(rate, int | float) and 0.001 <= rate <= 1000):
        raise UserError(f"the rate must be 0.001 to 1000 frames per second, not {rate!r}", where="--rate")
    if not all(math.isfinite(value) for value in (*settings.mean, *settings.std)):
        raise UserError("mean and std must be finite", where="--mean, --std")
    if len(settings.mean) != len(settings.std) or not settings.mean:
        raise UserError("mean and std need one value per channel", where="--mean, --std")
    if any(value < 1e-6 for value in settings.std):
        raise UserError("every std must be above 0.000001", where="--std")


def _check_pixels(settings: VideoPreprocess) -> None:
    crop, resize = settings.crop, settings.resize
    if settings.interpolation not in INTERPOLATIONS:
        hint = did_you_mean(settings.interpolation, INTERPOLATIONS) or f"one of {', '.join(INTERPOLATIONS)}"
        raise UserError(f"unknown interpolation {settings.interpolation!r}", where="--interpolation", fix=hint)
    sizes = (crop,) if resize is None else (crop, resize)
    if not all(isinstance(size, int) for size in sizes):
        raise UserError(f"sizes must be whole numbers of pixels, not {sizes}", where="preprocess")
    if not 1 <= crop <= 4096:
        raise UserError(f"the image size must be 1 to 4096 pixels, not {crop}", where="--image-size")
    if resize is not None and not crop <= resize <= 2 * 4096:
        raise UserError(f"a crop of {crop} pixels does not fit in frames resized to {resize}", where="preprocess")
    if settings.frames * max(sizes) ** 2 > _MOST_PIXELS // 2:
        raise UserError(
            f"{settings.frames} frames of {max(sizes)} pixels are too large a clip",
            where="--frames, --image-size",
            fix="use fewer or smaller frames",
        )


PREPROCESS = VideoPreprocess


def default_preprocess(spec: ResNetSpec, crop: int | None, resize: int | None) -> VideoPreprocess:
    """Return the zoo entry's crop, else a 112-pixel crop of 128 pixels, with the mean and std of Kinetics."""
    crop, resize = (crop, resize) if crop else (112, 128)
    return VideoPreprocess(crop=crop, resize=resize).with_channels(spec.in_channels)


def initial_preprocess(base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:
    """Return the preprocessing of the weights or the zoo, with the recipe's image size and frame sampling."""
    assert base is not None
    channels = settings.in_channels or array_channels(dataset) or settings.weights_channels or base.channels
    return base.with_channels(channels).override(image_size=settings.image_size).override(**settings.section)
