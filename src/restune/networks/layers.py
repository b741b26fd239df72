"""The layers that blocks and stems are built from, for 1, 2 and 3 dimensions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def conv(
    dims: int, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Module:
    """A convolution that keeps the size (over its stride). No bias: the norm beside it would cancel it."""
    padding = dilation * (kernel - 1) // 2
    return _CONV[dims](inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


def norm(dims: int, channels: int) -> nn.Module:
    """Batch norm (Ioffe and Szegedy 2015)."""
    made: nn.Module = _NORM[dims](channels)
    return made


def max_pool(dims: int) -> nn.Module:
    """The stem's pool: 3 wide, stride 2."""
    return _MAX_POOL[dims](kernel_size=3, stride=2, padding=1)


def avg_pool(dims: int, stride: int) -> nn.Module:
    """Averages of `stride` neighbours; at an odd edge the average is over those that exist, as in timm."""
    made: nn.Module = _AVG_POOL[dims](stride, stride, ceil_mode=True, count_include_pad=False)
    return made


class PadShortcut(nn.Module):
    """Shortcut A: take every `stride`-th position, fill up with zero channels, half on each side. No parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        spatial = x.ndim - 2
        sliced = x[(slice(None), slice(None), *[slice(None, None, self.stride)] * spatial)]
        return F.pad(sliced, [0, 0] * spatial + [self.before, self.after])

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zeros={self.before}+{self.after}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training drops whole branches, one draw a sample.

    Kept branches are scaled up so that the expectation stays the same.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty([x.shape[0], *[1] * (x.ndim - 1)]).bernoulli_(keep)
        return x * mask.div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class SqueezeExcitation(nn.Module):
    """A gate a channel from the global average (Hu et al. 2018), reduced 16 times, in multiples of 8 as in timm."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        reduced = max(8, (channels // 16 + 4) // 8 * 8)
        self.fc1 = _CONV[dims](channels, reduced, 1)
        self.fc2 = _CONV[dims](reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        average = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)  # [N, C, 1, ...]
        gate: Tensor = self.fc2(F.relu(self.fc1(average), inplace=True)).sigmoid()
        return x * gate


class EfficientChannelAttention(nn.Module):
    """A gate a channel from its neighbours' averages by one short 1-D convolution (Wang et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int((math.log2(channels) + 1) / 2)
        size = max(3, size if size % 2 else size + 1)
        self.conv = nn.Conv1d(1, 1, size, padding=(size - 1) // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        average = x.flatten(2).mean(dim=2)  # [N, C]
        gate: Tensor = self.conv(average.unsqueeze(1)).sigmoid()  # [N, 1, C]
        return x * gate.reshape(x.shape[0], x.shape[1], *[1] * (x.ndim - 2))


def attention(kind: str, dims: int, channels: int) -> nn.Module:
    """The attention a block puts on its branch; an identity for ``none``."""
    if kind == "se":
        return SqueezeExcitation(dims, channels)
    if kind == "eca":
        return EfficientChannelAttention(channels)
    return nn.Identity()


def global_average(x: Tensor) -> Tensor:
    """``[N, C, ...] -> [N, C]``."""
    return torch.flatten(x, 2).mean(dim=2)
