"""Memory layout of tensors: channels last for images and clips, because it is faster."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_MOST_POSITIONS = 2**20
"""Positions per part at most, summed over its items."""
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def laid_out(x: Tensor, *, channels_last: bool = True) -> Tensor:
    """Return the same values, for images and clips ``[N, C, (T,) H, W]`` in channels-last order."""
    layout = _CHANNELS_LAST.get(x.ndim) if channels_last else None
    return x.contiguous() if layout is None else x.contiguous(memory_format=layout)


def in_parts(x: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Split a batch of long series or texts into parts that fit in memory, each trimmed to its longest item.

    Images and clips, all of one size, are not split.

    Args:
        x, mask: series ``[N, C, L]`` or tokens ``[N, L]`` with a mask ``[N, L]``, images, or clips.
    """
    size = len(x) if x.ndim > 3 else max(1, _MOST_POSITIONS // max(1, x.shape[-1]))
    for start in range(0, len(x), size):
        part = x[start : start + size]
        known = None if mask is None else mask[start : start + size]
        if known is not None and size < len(x):
            longest = max(1, int(known.sum(dim=1).max()))
            part, known = part[..., :longest], known[:, :longest]
        yield part, known


def joined(parts: list[Tensor]) -> Tensor:
    """Concatenate the results of the parts; a single part, which may be large, is returned without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def weights_layout(dims: int) -> torch.memory_format:
    """Return the memory format for `Module.to` that matches `laid_out` input of this many dimensions."""
    return _CHANNELS_LAST.get(dims + 2, torch.preserve_format)
