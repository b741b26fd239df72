"""Layers of blocks and stems, for 1, 2 and 3 dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from restune.networks.masks import MaskedGroupNorm, MaskedNorm1d, average

Size = int | tuple[int, ...]
"""One value for all of an input's axes, or one value per axis."""

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: MaskedNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_ACT: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu, "leaky-relu": F.leaky_relu}
_AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def conv(
    dims: int, inputs: int, outputs: int, kernel: Size, *, stride: Size = 1, dilation: int = 1, groups: int = 1
) -> nn.Module:
    """Build a convolution that keeps the size (divided by the stride). No bias: the norm next to it cancels it."""
    if isinstance(kernel, int) and dilation * (kernel - 1) % 2:
        assert dims == 1  # checked by the spec
        layer: Any = EvenConv1d
        padding: tuple[int, ...] = (0,)
    else:
        layer = _CONV[dims]
        widths = (kernel,) * dims if isinstance(kernel, int) else kernel
        padding = tuple(dilation * (width - 1) // 2 for width in widths)
    convolution: nn.Module = layer(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    return convolution


class EvenConv1d(nn.Conv1d):
    """A convolution of even size, padded by one more at the end. (torch's padding="same" does the same, but warns.)"""

    def forward(self, x: Tensor) -> Tensor:
        reach = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(F.pad(x, (reach // 2, reach - reach // 2)))


def two_plus_one(
    inputs: int,
    between: int,
    outputs: int,
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
    norm_groups: int = 0,
    act: str = "relu",
) -> nn.Sequential:
    """Build a (2+1)-D convolution: space, norm, activation, then time (Tran et al. 2018).

    Args:
        inputs, between, outputs: channels.
        kernel, stride: (in space, in time).
        dilation: of both convolutions.
        norm_groups, act: see `norm` and `activate`.
    """
    (space, time), (space_stride, time_stride) = kernel, stride
    return nn.Sequential(
        conv(3, inputs, between, (1, space, space), stride=(1, space_stride, space_stride), dilation=dilation),
        norm(3, between, norm_groups),
        activation(act),
        conv(3, between, outputs, (time, 1, 1), stride=(time_stride, 1, 1), dilation=dilation),
    )


def norm(dims: int, channels: int, groups: int = 0) -> nn.Module:
    """Build a batch norm (Ioffe and Szegedy 2015), or a group norm (Wu and He 2018) where `groups` is not 0.

    Channels that `groups` does not divide are normalised in as many groups as their greatest common divisor.
    """
    if groups:
        kind = MaskedGroupNorm if dims == 1 else nn.GroupNorm
        return kind(math.gcd(groups, channels), channels)
    batch_norm: nn.Module = _NORM[dims](channels)
    return batch_norm


def activate(kind: str, x: Tensor, *, inplace: bool = True) -> Tensor:
    """Apply an activation, see `ResNetSpec.act`; all of them map 0 to 0, so that padding stays zero."""
    return F.relu(x, inplace=inplace) if kind == "relu" else _ACT[kind](x)


def activation(kind: str) -> nn.Module:
    """Build an activation as a module."""
    modules = {"gelu": nn.GELU, "silu": nn.SiLU, "leaky-relu": nn.LeakyReLU}
    return nn.ReLU(inplace=True) if kind == "relu" else modules[kind]()


def max_pool(dims: int, stride: Size = 2) -> nn.Module:
    """Build a max pool of width 3 along each strided axis."""
    strides = (stride,) * dims if isinstance(stride, int) else stride
    kernel = tuple(3 if step > 1 else 1 for step in strides)
    return _MAX_POOL[dims](kernel_size=kernel, stride=strides, padding=tuple(width // 2 for width in kernel))


class AveragePool(nn.Module):
    """Average pool of width `stride`; at an odd edge it averages the positions that exist, as in timm."""

    def __init__(self, dims: int, stride: Size) -> None:
        super().__init__()
        self.stride = (stride,) * dims if isinstance(stride, int) else stride

    def forward(self, x: Tensor) -> Tensor:
        # torch rejects windows wider than the input, such as those over a clip's single remaining frame.
        window = [min(step, size) for step, size in zip(self.stride, x.shape[2:], strict=True)]
        pool: Any = _AVG_POOL[len(self.stride)]
        averages: Tensor = pool(x, window, self.stride, ceil_mode=True, count_include_pad=False)
        return averages

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class PadShortcut(nn.Module):
    """Shortcut A: keep every `stride`-th position, pad with zero channels, half before, half after. No parameters."""

    def __init__(self, inputs: int, outputs: int, stride: Size) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        spatial = x.ndim - 2
        strides = (self.stride,) * spatial if isinstance(self.stride, int) else self.stride
        sliced = x[(slice(None), slice(None), *[slice(None, None, stride) for stride in strides])]
        return F.pad(sliced, [0, 0] * spatial + [self.before, self.after])

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zeros={self.before}+{self.after}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, drop each sample's branch at random.

    Remaining branches are scaled up so that the expectation stays the same.
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
    """Channel gates from the global average (Hu et al. 2018); reduction 16, rounded to a multiple of 8 as in timm."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        reduced = max(8, (channels // 16 + 4) // 8 * 8)
        self.fc1 = _CONV[dims](channels, reduced, 1)
        self.fc2 = _CONV[dims](reduced, channels, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        everywhere = tuple(range(2, x.ndim))
        averages = x.mean(dim=everywhere, keepdim=True) if mask is None else average(x, mask).unsqueeze(2)
        gate: Tensor = self.fc2(F.relu(self.fc1(averages), inplace=True)).sigmoid()
        return x * gate


class EfficientChannelAttention(nn.Module):
    """Channel gates from a short 1-D convolution over the channels' averages (Wang et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = int((math.log2(channels) + 1) / 2)
        size = max(3, size if size % 2 else size + 1)
        self.conv = nn.Conv1d(1, 1, size, padding=(size - 1) // 2, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        gate: Tensor = self.conv(average(x, mask).unsqueeze(1)).sigmoid()  # [N, 1, C]
        return x * gate.reshape(x.shape[0], x.shape[1], *[1] * (x.ndim - 2))


def attention(kind: str, dims: int, channels: int) -> nn.Module:
    """Build the attention of a residual branch; an identity for ``none``."""
    if kind == "se":
        return SqueezeExcitation(dims, channels)
    if kind == "eca":
        return EfficientChannelAttention(channels)
    return nn.Identity()


def run_layers(layers: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Run a convolution, or a sequence of convolutions, norms, average pools and activations, on padded input."""
    if mask is None or not isinstance(layers, nn.Sequential):
        alone: Tensor = layers(x)
        return alone
    for layer in layers:
        x = layer(x, mask) if isinstance(layer, MaskedNorm1d | MaskedGroupNorm) else layer(x)
        if isinstance(layer, AveragePool):  # average over real positions only
            share = layer(mask.unsqueeze(1).to(x.dtype))  # [N, 1, L / stride]
            x = x / share.masked_fill(share == 0, 1.0)
        if isinstance(layer, AveragePool | nn.Conv1d):
            mask = mask[:, :: layer.stride[0]]
    return x
