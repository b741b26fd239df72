"""Keep images of one size on the GPU that trains, so that no step waits for a transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from restune.data.augment import Augment
from restune.data.dataset import Item
from restune.data.preload import Preloaded
from restune.data.preprocess import Preprocess

_SHARE = 0.3
"""Share of a GPU's free memory that the images may take."""


@dataclass(frozen=True)
class Resident:
    """Samples ``[N, C, H, W]`` on a device, and the row of each item id."""

    samples: Tensor
    rows: dict[str, int]

    def take(self, items: Sequence[Item]) -> Tensor:
        """Return the samples of some items, in order, on the device."""
        rows = torch.tensor([self.rows[item.id] for item in items])
        return self.samples[rows.to(self.samples.device)]


def resident(
    items: Sequence[Item],
    preloaded: Preloaded,
    preprocess: Preprocess,
    augment: Augment,
    device: torch.device,
    room: float | None = None,
) -> Resident | None:
    """Copy all images to the device; return None if they do not fit, differ in size, or are augmented one by one.

    Args:
        items: the training items.
        room: bytes that the images may take; by default a share of the GPU's free memory, and 0 without a GPU.
    """
    by_image = augment.crop_scale is not None or augment.policy != "none"
    if not preprocess.has_fixed_shape or not preloaded.as_seen or by_image:
        return None
    if not preloaded.kept.holds(items):
        return None
    samples = [preloaded.kept[item.id] for item in items]
    size = sum(sample.nbytes for sample in samples)
    if room is None:
        room = _SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    if size > room:
        return None
    return Resident(torch.stack(samples).to(device), {item.id: row for row, item in enumerate(items)})
