"""Series: decode, fill what is missing, cut, normalise."""

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
_CONSTANT = 1e-7
"""A deviation below this share of the largest value is what rounding to float32 leaves of a constant series."""
_SOUND_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class SignalPreprocess:
    """Fill what is missing, cut the centre of what is too long, normalise.

    Args:
        channels: of every series.
        normalization: ``series``: each channel of each series to mean 0 and deviation 1 over what the network sees of
            it (a constant one to zeros); ``channel``: by `mean` and `std`; ``none``.
        mean, std: one number a channel, measured on training data; only with ``channel``.
        rate: samples a second that recordings are brought to; None keeps each one's own.
        length: of longer series the centre of this length is kept; None keeps all. Shorter ones stay as they are.
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
            raise UserError(f"a series has 1 to {MAX_CHANNELS} channels, not {self.channels}", where="preprocess")
        if self.normalization not in NORMALIZATIONS:
            hint = did_you_mean(str(self.normalization), NORMALIZATIONS) or f"one of {', '.join(NORMALIZATIONS)}"
            raise UserError(f"unknown normalization {self.normalization!r}", where="--normalization", fix=hint)
        if self.length is not None and not is_whole(self.length, 1, _LONGEST):
            raise UserError(f"the length must be 1 to {_LONGEST:,} values, not {self.length}", where="--length")
        if self.rate is not None and not is_whole(self.rate, _LEAST_RATE, _MOST_RATE):
            limits = f"{_LEAST_RATE} to {_MOST_RATE:,} samples a second"
            raise UserError(f"the rate must be {limits}, not {self.rate}", where="--rate")
        count = self.channels if self.normalization == "channel" else 0
        if len(self.mean) != count or len(self.std) != count:
            raise UserError(
                f"the normalization {self.normalization!r} takes {count} numbers of mean and of std, "
                f"not {len(self.mean)} and {len(self.std)}",
                where="--mean, --std",
            )
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in (*self.mean, *self.std)):
            raise UserError("mean and std must be finite numbers", where="--mean, --std")
        if any(value <= 0 for value in self.std):
            raise UserError("every std must be above 0", where="--std")

    def apply(self, content: bytes | NDArray[Any]) -> Tensor:
        """float32 ``[C, L]``, normalised, from an array ``[C, L]`` or ``[L]`` or a .wav file. Raises DecodeError."""
        return self.view(self.whole(content))

    def views(self, content: bytes | NDArray[Any], mode: str) -> Tensor:  # noqa: ARG002
        """float32 ``[1, C, L]``: the one view there is. Raises DecodeError."""
        return self.apply(content).unsqueeze(0)

    def cost(self, mode: str) -> int:  # noqa: ARG002
        """One view per series."""
        return 1

    def whole_if(self, content: Any, fits: Callable[[int], bool]) -> Tensor | None:
        """`whole` where so many bytes fit; else None. Raises DecodeError."""
        whole = self.whole(content)
        return whole if fits(whole.nbytes) else None

    def whole(self, content: bytes | NDArray[Any]) -> Tensor:
        """float32 ``[C, L]``: all of a series as it was measured, with what is missing filled. Raises DecodeError."""
        import torch

        from restune.data.decode import DecodeError
        from restune.data.wav import MAX_VALUES, decode_wav

        series = decode_wav(content, self.rate) if isinstance(content, bytes) else np.asarray(content)
        if series.dtype.kind not in "iufb":
            raise DecodeError(f"values of type {series.dtype} are no numbers")
        if series.ndim == 1:
            series = series[None]
        if series.ndim != 2 or not series.size:
            raise DecodeError(f"a series has the shape [C, L] or [L], not {list(series.shape)}")
        if len(series) != self.channels:
            raise DecodeError(f"the series has {len(series)} channels, the model wants {self.channels}")
        if series.shape[1] > MAX_VALUES or series.size > 10 * MAX_VALUES:
            raise DecodeError(f"a series of {series.shape[1]:,} values is too long (the limit is {MAX_VALUES:,})")
        with np.errstate(over="ignore"):
            values = np.array(series, np.float32)
        if np.isinf(values).any():
            raise DecodeError("the series holds an infinite value")
        return torch.from_numpy(_filled(values))

    def view(self, whole: Tensor) -> Tensor:
        """The centre where it is too long, normalised."""
        import torch

        if self.length is not None and whole.shape[1] > self.length:
            start = (whole.shape[1] - self.length) // 2
            whole = whole[:, start : start + self.length]
        if self.normalization == "none":
            return whole.contiguous()
        values = whole.double()
        if self.normalization == "channel":
            mean, std = (torch.tensor(numbers, dtype=torch.float64)[:, None] for numbers in (self.mean, self.std))
            return ((values - mean) / std).float()
        std, mean = torch.std_mean(values, dim=1, correction=0, keepdim=True)
        varies = std > _CONSTANT * values.abs().amax(dim=1, keepdim=True)
        return torch.where(varies, (values - mean) / torch.where(varies, std, 1.0), 0.0).float()

    @property
    def image_size(self) -> None:
        """Series have no image size."""
        return None

    @property
    def has_fixed_shape(self) -> bool:
        """Series may have different lengths."""
        return False

    def needs_wholes(self, augment: Augment) -> bool:  # noqa: ARG002
        """Always: random windows and warped time are taken from the measured series."""
        return True

    def training_source(
        self,
        kept: Tensor | None,
        read: Callable[[], Tensor],
        content: Callable[[], Any],  # noqa: ARG002
        key: RandomKey,  # noqa: ARG002
    ) -> Tensor:
        """The series, from memory or read."""
        return read() if kept is None else kept

    def training_views(self, sources: Sequence[Tensor], augment: Augment, key: RandomKey) -> Tensor:
        """float32 ``[N, C, L]``, augmented and normalised."""
        from restune.data.augment_series import change_time, change_values

        series = [self.view(one) for one in change_time(sources, augment, key)]
        return change_values(self.stack(series), augment, key)

    def fit(self, items: Sequence[Item], settings: InputSettings) -> SignalPreprocess:
        """With the training items' mean and spread of each channel, where the recipe normalises by them."""
        if settings.section.get("normalization") != "channel" or settings.from_weights or self.mean:
            return self
        mean, std = channel_statistics(self.whole(item.location.read()) for item in items)
        return replace(self, normalization="channel", mean=mean, std=std)

    def spec_fields(self) -> dict[str, Any]:
        """The network's input channels."""
        return {"in_channels": self.channels}

    def stack(self, samples: Sequence[Tensor]) -> Tensor:
        """float32 ``[N, C, L]``: shorter series end in NaN."""
        import torch

        lengths = [sample.shape[1] for sample in samples]
        if len(set(lengths)) == 1:
            return torch.stack(list(samples))
        batch = torch.full((len(samples), samples[0].shape[0], max(lengths)), torch.nan)
        for row, sample in zip(batch, samples, strict=True):
            row[:, : sample.shape[1]] = sample
        return batch

    def inputs(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """The series with zeros for padding, and where they are none: bool ``[N, L]``."""
        mask = ~batch[:, 0].isnan()
        return (batch, None) if bool(mask.all()) else (batch.nan_to_num(0.0), mask)

    def override(self, **changes: Any) -> SignalPreprocess:
        """A copy with some of `normalization`, `mean`, `std`, `rate` and `length` changed; one mean or std stands for
        all channels. Raises UserError for a setting that series do not have."""
        wanted = named_changes(changes, ("normalization", "mean", "std", "rate", "length"), self.kind)
        normalization = wanted.get("normalization", self.normalization)
        for name in ("mean", "std"):
            if normalization != "channel":
                if name in wanted:
                    raise UserError(
                        f"the normalization {normalization!r} takes no {name}",
                        where=f"--{name}",
                        fix="leave it out, or name the normalization 'channel'",
                    )
                wanted[name] = ()
            elif name in wanted:
                wanted[name] = per_channel(wanted[name], self.channels, f"--{name}")
        return replace(self, **wanted)

    def with_channels(self, channels: int) -> SignalPreprocess:
        """The same for another number of channels: their mean and std are the average over the present ones."""
        return replace(self, channels=channels, mean=averaged(self.mean, channels), std=averaged(self.std, channels))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `stored.preprocess_from_dict` is its inverse."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def __str__(self) -> str:
        length = "any length" if self.length is None else f"at most {self.length} values (the centre of longer ones)"
        parts = [f"{self.channels} channel{'s' * (self.channels > 1)}", length]
        if self.rate is not None:
            parts.append(f"{self.rate} samples a second")
        if self.normalization == "channel":
            mean, std = (", ".join(f"{value:g}" for value in values[:8]) for values in (self.mean, self.std))
            parts.append(f"mean {mean}, std {std}" + " ..." * (self.channels > 8))
        else:
            parts.append({"series": "each series normalised", "none": "not normalised"}[self.normalization])
        return ", ".join(parts)


def channel_statistics(wholes: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all positions of some series ``[C, L]``, for ``channel``.

    A constant channel's deviation is 1. Raises UserError where there is no series.
    """
    import torch

    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for whole in wholes:  # Chan et al. 1979: the squares of two parts are combined without cancellation
        values = whole.double()
        size, here = values.shape[1], values.mean(dim=1)
        apart = here - mean
        squares = (
            squares + (values - here[:, None]).square().sum(dim=1) + apart.square() * (count * size) / (count + size)
        )
        mean = mean + apart * size / (count + size)
        count += size
    if not count:
        raise UserError("there are no series to measure", where="preprocess")
    std = (squares / count).sqrt()
    std = torch.where(std > _CONSTANT * mean.abs(), std, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _filled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is missing (NaN) on a line between its neighbours; at the ends as the nearest. Raises DecodeError."""
    from restune.data.decode import DecodeError

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
    """Each series normalised, whole."""
    return SignalPreprocess(channels=spec.in_channels)


def initial_preprocess(base: Preprocess | None, dataset: Dataset, settings: InputSettings) -> Preprocess:
    """The weights', else what recipe and data say. Raises UserError for data of other channels than the weights'."""
    is_sound = dataset.form == "sound"
    rate, length = settings.section.get("rate"), settings.section.get("length")
    if rate is not None and not is_sound:
        raise UserError("only sounds have a rate", where="--set signal.rate", fix="leave it out")
    first = None if is_sound else np.asarray(dataset.items[0].location.read())
    channels = 1 if first is None or first.ndim == 1 else first.shape[0]
    if base is None:
        normalization = settings.section.get("normalization", "series")
        return SignalPreprocess(
            channels=channels,
            normalization="none" if normalization == "channel" else normalization,  # until `fit` measures them
            rate=rate or (_SOUND_RATE if is_sound else None),
            length=length,
        )
    if base.channels != channels:
        raise UserError(
            f"the network takes {base.channels} channels, the data has {channels}",
            where=dataset.source,
            fix="name weights of a network for such data, or train one",
        )
    return base.override(length=length, rate=rate)
