"""Preprocess series: decode, interpolate missing values, cut, normalise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from restune.core.errors import UserError, did_you_mean
from restune.data.preprocess.settings import averaged, is_whole, named_changes, per_channel

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from restune.data.augment import Augment, RandomKey
    from restune.data.dataset import Dataset, Item
    from restune.data.preprocess.base import InputSettings, Preprocess
    from restune.networks.spec import ResNetSpec

NORMALIZATIONS = ("series", "channel", "none")
MAX_CHANNELS = 65_536
_LEAST_RATE, _MOST_RATE = 100, 384_000
_LONGEST = 10_000_000
CONSTANT = 1e-7
"""A channel whose deviation is below this share of its largest value is constant up to float32 rounding."""
_SOUND_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class SignalPreprocess:
    """Interpolate missing values, cut long series to their centre, normalise.

    Args:
        channels: number of channels of every series.
        normalization: ``series``: each channel of each series to mean 0 and standard deviation 1 over the network's
            input (constant channels to 0); ``channel``: by `mean` and `std`; ``none``.
        mean, std: one value per channel, measured on the training items; only with ``channel``.
        rate: sample rate that recordings are resampled to, samples per second; None: each recording's own.
        length: longest series, values; longer ones are cut to their centre, shorter ones are unchanged; None: no limit.
    """

    channels: int = 1
    normalization: str = "series"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    rate: int | None = None
    length: int | None = None
    kind: str = "signal"

    def __post_init__(self) -> None:
        if not is_whole(self.channels, 1, MAX_CHANNELS):
            raise UserError(f"a series must have 1 to {MAX_CHANNELS} channels, not {self.channels}", where="preprocess")
        if self.normalization not in NORMALIZATIONS:
            hint = did_you_mean(str(self.normalization), NORMALIZATIONS) or f"one of {', '.join(NORMALIZATIONS)}"
            raise UserError(f"unknown normalization {self.normalization!r}", where="--normalization", fix=hint)
        if self.length is not None and not is_whole(self.length, 1, _LONGEST):
            raise UserError(f"the length must be 1 to {_LONGEST:,} values, not {self.length}", where="--length")
        if self.rate is not None and not is_whole(self.rate, _LEAST_RATE, _MOST_RATE):
            limits = f"{_LEAST_RATE} to {_MOST_RATE:,} samples per second"
            raise UserError(f"the rate must be {limits}, not {self.rate}", where="--rate")
        count = self.channels if self.normalization == "channel" else 0
        if len(self.mean) != count or len(self.std) != count:
            raise UserError(
                f"the normalization {self.normalization!r} needs mean and std of length {count}, "
                f"not {len(self.mean)} and {len(self.std)}",
                where="--mean, --std",
            )
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in (*self.mean, *self.std)):
            raise UserError("mean and std must be finite numbers", where="--mean, --std")
        if any(value <= 0 for value in self.std):
            raise UserError("every std must be above 0", where="--std")

    def apply(self, content: bytes | NDArray[Any]) -> Tensor:
        """Convert an array ``[C, L]`` or ``[L]``, or the bytes of a .wav file, to normalised float32 ``[C, L]``.

        Raises DecodeError.
        """
        return self.view(self.whole(content))

    def views(self, content: bytes | NDArray[Any], mode: str) -> Tensor:  # noqa: ARG002
        """Return the only view, float32 ``[1, C, L]``. Raises DecodeError."""
        return self.apply(content).unsqueeze(0)

    def cost(self, mode: str) -> int:  # noqa: ARG002
        """Return 1: a series has one view."""
        return 1

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """Return `whole` if its size in bytes fits, else None. Raises DecodeError."""
        whole = self.whole(content)
        return whole if fits(whole.nbytes) else None

    def whole(self, content: bytes | NDArray[Any]) -> Tensor:
        """Decode the whole series to float32 ``[C, L]``, not normalised, missing values interpolated.

        Raises DecodeError.
        """
        import torch

        return torch.from_numpy(self.whole_values(content))

    def whole_values(self, content: bytes | NDArray[Any]) -> NDArray[np.float32]:
        """Return the array of `whole`, without torch. Raises DecodeError."""
        from restune.data.pixels import DecodeError
        from restune.data.wav import MAX_VALUES, decode_wav

        series = decode_wav(content, self.rate) if isinstance(content, bytes) else np.asarray(content)
        if series.dtype.kind not in "iufb":
            raise DecodeError(f"values of type {series.dtype} are not numbers")
        if series.ndim == 1:
            series = series[None]
        if series.ndim != 2 or not series.size:
            raise DecodeError(f"a series must have the shape [C, L] or [L], not {list(series.shape)}")
        if len(series) != self.channels:
            raise DecodeError(f"the series has {len(series)} channels, the model expects {self.channels}")
        if series.shape[1] > MAX_VALUES or series.size > 10 * MAX_VALUES:
            raise DecodeError(f"a series of {series.shape[1]:,} values is too long (the limit is {MAX_VALUES:,})")
        with np.errstate(over="ignore"):
            values = np.array(series, np.float32)
        if np.isinf(values).any():
            raise DecodeError("the series contains an infinite value")
        return _filled(values)

    def view(self, whole: Tensor) -> Tensor:
        """Cut a long series to its centre and normalise it."""
        import torch

        if self.length is not None and whole.shape[1] > self.length:
            start = (whole.shape[1] - self.length) // 2
            whole = whole[:, start : start + self.length]
        if self.normalization == "none":
            return whole.contiguous()
        values = whole.double()
        if self.normalization == "channel":
            mean, std = (torch.tensor(values, dtype=torch.float64)[:, None] for values in (self.mean, self.std))
            return ((values - mean) / std).float()
        std, mean = torch.std_mean(values, dim=1, correction=0, keepdim=True)
        varies = std > CONSTANT * values.abs().amax(dim=1, keepdim=True)
        return torch.where(varies, (values - mean) / torch.where(varies, std, 1.0), 0.0).float()

    @property
    def image_size(self) -> None:
        """None: series do not have an image size."""
        return None

    @property
    def has_fixed_shape(self) -> bool:
        """False: series may have different lengths."""
        return False

    def needs_wholes(self, augment: Augment) -> bool:  # noqa: ARG002
        """Return True: random windows and time warping are applied before normalisation."""
        return True

    def training_source(
        self,
        cached: Tensor | None,
        read: Callable[[], Tensor],
        content: Callable[[], Any],  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> Tensor:
        """Return the series, from memory or read."""
        return read() if cached is None else cached

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """Return the augmented and normalised batch, float32 ``[N, C, L]``."""
        from restune.data.augment_series import change_time, change_values

        series = [self.view(one) for one in change_time(sources, augment, key)]
        return change_values(self.stack(series), augment, key)

    def fit(self, items: Sequence[Item], settings: InputSettings) -> SignalPreprocess:
        """Measure each channel's mean and deviation on the training items, if the recipe normalises by channel."""
        if settings.section.get("normalization") != "channel" or settings.from_weights or self.mean:
            return self
        mean, std = channel_statistics(self.whole(item.location.read()) for item in items)
        return replace(self, normalization="channel", mean=mean, std=std)

    def draft(self) -> None:
        """Return None: items are decoded alike before and after `fit`."""

    def spec_fields(self) -> dict[str, Any]:
        """Return the network's input channels."""
        return {"in_channels": self.channels}

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """Stack samples to float32 ``[N, C, L]``; shorter series are padded with NaN."""
        import torch

        lengths = [sample.shape[1] for sample in samples]
        if len(set(lengths)) == 1:
            return torch.stack(list(samples))
        batch = torch.full((len(samples), samples[0].shape[0], max(lengths)), torch.nan)
        for row, sample in zip(batch, samples, strict=True):
            row[:, : sample.shape[1]] = sample
        return batch

    def inputs(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the series with zeros as padding, and their mask, bool ``[N, L]``: False for padding."""
        mask = ~batch[:, 0].isnan()
        return (batch, None) if bool(mask.all()) else (batch.nan_to_num(0.0), mask)

    def override(self, **changes: Any) -> SignalPreprocess:
        """Return a copy with some of `normalization`, `mean`, `std`, `rate` and `length` changed; a single mean or std
        applies to all channels. Raises UserError for a setting that series do not have."""
        wanted = named_changes(changes, ("normalization", "mean", "std", "rate", "length"), self.kind)
        normalization = wanted.get("normalization", self.normalization)
        for name in ("mean", "std"):
            if normalization != "channel":
                if name in wanted:
                    raise UserError(
                        f"the normalization {normalization!r} does not use {name}",
                        where=f"--{name}",
                        fix="leave it out, or set the normalization to 'channel'",
                    )
                wanted[name] = ()
            elif name in wanted:
                wanted[name] = per_channel(wanted[name], self.channels, f"--{name}")
        return replace(self, **wanted)

    def with_channels(self, channels: int) -> SignalPreprocess:
        """Return a copy for another number of channels, each with the average of the present mean and std."""
        return replace(self, channels=channels, mean=averaged(self.mean, channels), std=averaged(self.std, channels))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; `stored.preprocess_from_dict` is the inverse."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def __str__(self) -> str:
        length = "any length" if self.length is None else f"at most {self.length} values (the centre of longer ones)"
        parts = [f"{self.channels} channel{'s' * (self.channels > 1)}", length]
        if self.rate is not None:
            parts.append(f"{self.rate} samples per second")
        if self.normalization == "channel":
            mean, std = (", ".join(f"{value:g}" for value in values[:8]) for values in (self.mean, self.std))
            parts.append(f"mean {mean}, std {std}" + " ..." * (self.channels > 8))
        else:
            parts.append({"series": "each series normalised", "none": "not normalised"}[self.normalization])
        return ", ".join(parts)


def channel_statistics(wholes: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the mean and standard deviation of each channel over all positions of series ``[C, L]``.

    The deviation of a constant channel is set to 1. Raises UserError if there are no series.
    """
    import torch

    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for whole in wholes:  # Chan et al. 1979: merges the sums of squares of two parts without cancellation
        values = whole.double()
        size, here = values.shape[1], values.mean(dim=1)
        apart = here - mean
        squares = (
            squares + (values - here[:, None]).square().sum(dim=1) + apart.square() * (count * size) / (count + size)
        )
        mean = mean + apart * size / (count + size)
        count += size
    if not count:
        raise UserError("there are no series to compute mean and std from", where="preprocess")
    std = (squares / count).sqrt()
    std = torch.where(std > CONSTANT * mean.abs(), std, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _filled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate missing values (NaN) linearly; at the ends, repeat the nearest value. Raises DecodeError."""
    from restune.data.pixels import DecodeError

    missing = np.isnan(values)
    if not missing.any():
        return values
    if missing.all(axis=1).any():
        raise DecodeError("all values of the series, or of one of its channels, are missing")
    steps = np.arange(values.shape[1])
    for row, gaps in zip(values, missing, strict=True):
        if gaps.any():
            row[gaps] = np.interp(steps[gaps], steps[~gaps], row[~gaps])
    return values


PREPROCESS = SignalPreprocess


def default_preprocess(spec: ResNetSpec, crop: int | None, resize: int | None) -> SignalPreprocess:  # noqa: ARG001
    """Return preprocessing that normalises each series and keeps its full length."""
    return SignalPreprocess(channels=spec.in_channels)


def initial_preprocess(base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:
    """Return the preprocessing of the weights, else that of recipe and data. Raises UserError if channels differ."""
    is_sound = dataset.form == "sound"
    rate, length = settings.section.get("rate"), settings.section.get("length")
    if rate is not None and not is_sound:
        raise UserError("signal.rate applies to sounds only", where="--set signal.rate", fix="leave it out")
    first = None if is_sound else np.asarray(dataset.items[0].location.read())
    channels = 1 if first is None or first.ndim == 1 else first.shape[0]
    if base is None:
        normalization = settings.section.get("normalization", "series")
        return SignalPreprocess(
            channels=channels,
            normalization="none" if normalization == "channel" else normalization,  # until `fit` measures mean and std
            rate=rate or (_SOUND_RATE if is_sound else None),
            length=length,
        )
    if base.channels != channels:
        raise UserError(
            f"the network takes {base.channels} channels, the data has {channels}",
            where=dataset.source,
            fix="choose weights for this number of channels, or train from scratch",
        )
    return base.override(length=length, rate=rate)
