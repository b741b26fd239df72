"""How tensors lie in memory: channels last where there is such a layout, which is the quicker one."""

from __future__ import annotations

import torch
from torch import Tensor

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def laid_out(x: Tensor, *, channels_last: bool = True) -> Tensor:
    """The same numbers, of images and clips ``[N, C, (T,) H, W]`` in channels-last order; series have no such."""
    layout = _CHANNELS_LAST.get(x.ndim) if channels_last else None
    return x.contiguous() if layout is None else x.contiguous(memory_format=layout)


def weights_layout(dims: int) -> torch.memory_format:
    """What `Module.to` takes to lay out a network of so many dimensions so that it reads `laid_out` input quickly."""
    return _CHANNELS_LAST.get(dims + 2, torch.preserve_format)
