"""Features of series without a trained network: random convolution kernels (ROCKET, Dempster et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restune.core.streams import generator

_KERNELS = 500
_TAPS = 9
_LONGEST = 8192
"""Values; longer series are cut to their centre."""
_BATCH_VALUES = 2**20


@dataclass(frozen=True)
class Kernel:
    """Kernels of one dilation.

    Args:
        weight: ``[K, C, 9]``, each row of one kernel and channel of mean 0, or all 0.
        bias: ``[K]``.
        dilation: distance of the taps.
    """

    weight: Tensor
    bias: Tensor
    dilation: int

    def __call__(self, series: Tensor) -> Tensor:
        """Return each kernel's share of positive responses and its maximum: ``[N, C, L]`` to ``[N, 2 K]``."""
        reach = self.dilation * (_TAPS // 2)
        responses = F.conv1d(series, self.weight, self.bias, dilation=self.dilation, padding=reach)
        return torch.cat([(responses > 0).float().mean(2), responses.amax(2)], 1)


def kernel_features(series: Sequence[Tensor], seed: int = 0) -> Tensor:
    """Return features of series, float32 ``[N, 1000 + 2 C]``, each of mean 0 and standard deviation 1 over the items.

    Series are normalised one by one; their mean and standard deviation are features, too. Where lengths differ, all are
    resampled to the median length.

    Args:
        series: float32 ``[C, L]`` each.
        seed: of the kernels.

    Source: Dempster, Petitjean & Webb, ROCKET, Data Mining and Knowledge Discovery, 2020.
    """
    with torch.inference_mode():
        equal, levels = _equalised(series)
        kernels = list(_kernels(equal.shape[1], equal.shape[2], seed))
        size = max(1, _BATCH_VALUES // (equal.shape[2] * _KERNELS // 8))
        parts = [
            torch.cat([kernel(equal[start : start + size]) for kernel in kernels], 1)
            for start in range(0, len(equal), size)
        ]
        rows = torch.cat([torch.cat(parts), levels], 1)
        rows = rows - rows.mean(0)
        return rows / rows.std(0, unbiased=False).clamp_min(1e-6)


def _equalised(series: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return normalised series of one length ``[N, C, L]``, and mean and log standard deviation ``[N, 2 C]``."""
    lengths = sorted(one.shape[1] for one in series)
    length = min(_LONGEST, max(_TAPS, lengths[len(lengths) // 2]))
    rows, levels = [], []
    for one in series:
        mean, std = one.mean(1, keepdim=True), one.std(1, unbiased=False, keepdim=True)
        levels.append(torch.cat([mean, std.clamp_min(1e-6).log()])[:, 0])
        values = (one - mean) / std.clamp_min(1e-6)
        start = max(0, values.shape[1] - _LONGEST) // 2
        values = values[:, start : start + _LONGEST]
        is_other = values.shape[1] != length
        rows.append(F.interpolate(values[None], length, mode="linear")[0] if is_other else values)
    return torch.stack(rows), torch.stack(levels)


def _kernels(channels: int, length: int, seed: int) -> Iterator[Kernel]:
    """Yield random kernels, grouped by dilation, an equal number for each power of two that fits."""
    random = generator(seed, "kernels")
    dilations = [2**power for power in range(16) if 2**power * (_TAPS - 1) < max(_TAPS, length)]
    count = -(-_KERNELS // len(dilations))
    for dilation in dilations:
        weight = torch.from_numpy(random.normal(size=(count, channels, _TAPS))).float()
        weight = weight - weight.mean(2, keepdim=True)
        is_read = torch.from_numpy(random.random((count, channels)) < 2 ** random.uniform(0, 1, (count, 1)) - 1)
        is_read[torch.arange(count), torch.from_numpy(random.integers(channels, size=count))] = True
        bias = torch.from_numpy(random.uniform(-1, 1, count)).float()
        yield Kernel(weight * is_read[:, :, None], bias, dilation)
