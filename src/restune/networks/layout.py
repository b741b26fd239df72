"""How tensors lie in memory: channels last where there is such a layout, which is the quicker one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_MOST_POSITIONS = 2**20
"""Of all items of a part together."""
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def laid_out(x: Tensor, *, channels_last: bool = True) -> Tensor:
    """The same numbers, of images and clips ``[N, C, (T,) H, W]`` in channels-last order; series have no such."""
    layout = _CHANNELS_LAST.get(x.ndim) if channels_last else None
    return x.contiguous() if layout is None else x.contiguous(memory_format=layout)


def in_parts(x: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """A batch a few items at a time where they are so long that all at once would fill memory, and of padded ones only
    as much as the longest of the few needs. Images and clips are of one size and stay together.

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
    """What was made of the parts, as of one batch; the only part itself, which may be large, and not a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def weights_layout(dims: int) -> torch.memory_format:
    """What `Module.to` takes to lay out a network of so many dimensions so that it reads `laid_out` input quickly."""
    return _CHANNELS_LAST.get(dims + 2, torch.preserve_format)
