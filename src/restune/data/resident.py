"""Images of one size kept where the network computes: on a GPU no step then waits for a transfer."""

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
"""Of a GPU's free memory, what the images may take."""


@dataclass(frozen=True)
class Resident:
    """Samples ``[N, C, H, W]`` on a device, found by their items' ids."""

    samples: Tensor
    rows: dict[str, int]

    def take(self, items: Sequence[Item]) -> Tensor:
        """The samples of some items, in order, on the device."""
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
    """All images on the device; None where they do not fit there, are not of one size, or change in ways that are made
    image by image.

    Args:
        items: of training.
        room: bytes that they may take; by default a share of what is free on a GPU.
    """
    by_image = augment.crop_scale is not None or augment.policy != "none"
    if not preprocess.has_fixed_shape or not preloaded.as_seen or by_image:
        return None
    kept = [preloaded.kept.get(item.id) for item in items]
    samples = [sample for sample in kept if sample is not None]
    size = sum(sample.nbytes for sample in samples)
    if room is None:
        room = _SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    if len(samples) < len(items) or size > room:
        return None
    return Resident(torch.stack(samples).to(device), {item.id: row for row, item in enumerate(items)})
