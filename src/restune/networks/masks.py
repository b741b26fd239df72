"""Layers that ignore the padding of series, so that an item's output does not depend on it.

A mask is bool ``[N, L]``, True at an item's real positions. Between layers a padded batch is zero where its mask is
False, like the zero padding that a convolution adds to the item alone. The output of a layer of stride s has position
p where its input has position ``s * p``: ``ceil(length / s)`` positions, as many as for the item alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedNorm1d(nn.BatchNorm1d):
    """Batch norm with statistics over real positions only; the padding stays zero."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[N, C, L] -> [N, C, L]``; with a mask ``[N, L]``."""
        if mask is None:
            return super().forward(x)
        if not self.training:
            return blanked(super().forward(x), mask)
        rows = x.transpose(1, 2)  # [N, L, C]
        there = rows[mask]  # [positions, C]
        if len(there) < 2:  # the variance of a single position is undefined
            normalised_alone = F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
            return blanked(normalised_alone, mask)
        normalised = super().forward(there)
        filled = normalised.new_zeros(rows.shape)
        filled[mask] = normalised
        return filled.transpose(1, 2)


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm with statistics over real positions only; the padding stays zero."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[N, C, L] -> [N, C, L]``; with a mask ``[N, L]``."""
        if mask is None:
            return super().forward(x)
        items, channels, length = x.shape
        whole = x if x.dtype == torch.float64 else x.float()
        grouped = whole.reshape(items, self.num_groups, -1, length)  # [N, G, C / G, L]
        there = mask[:, None, None, :]
        count = mask.sum(dim=1).clamp(min=1).view(-1, 1, 1, 1) * grouped.shape[2]
        mean = grouped.masked_fill(~there, 0.0).sum(dim=(2, 3), keepdim=True) / count
        centred = (grouped - mean).masked_fill(~there, 0.0)
        variance = centred.square().sum(dim=(2, 3), keepdim=True) / count
        normalised = (centred * (variance + self.eps).rsqrt()).reshape(items, channels, length)
        return blanked(normalised * self.weight[:, None] + self.bias[:, None], mask)


def normed(norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply the norm, or the identity in its place, to padded input."""
    normalised: Tensor = norm(x) if mask is None or isinstance(norm, nn.Identity) else norm(x, mask)
    return normalised


def blanked(x: Tensor, mask: Tensor, value: float = 0.0) -> Tensor:
    """Set the padding of ``[N, C, L]`` to `value`."""
    return x.masked_fill(~mask.unsqueeze(1), value)


def strided(mask: Tensor | None, stride: int) -> Tensor | None:
    """Return the mask after a layer of that stride."""
    return mask if mask is None or stride == 1 else mask[:, ::stride]


def average(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average over the real positions: ``[N, C, ...] -> [N, C]``."""
    if mask is None:
        return x.flatten(2).mean(dim=2)
    return x.sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def max_pooled(pool: nn.Module, x: Tensor, mask: Tensor | None, stride: int) -> Tensor:
    """Apply a max pool that never selects padding, as for the item alone."""
    if mask is None:
        largest: Tensor = pool(x)
        return largest
    return blanked(pool(blanked(x, mask, float("-inf"))), mask[:, ::stride])


def pooled(kind: str, x: Tensor, mask: Tensor | None, k_max: int, *, rectified: bool = True) -> Tensor:
    """Pool over all positions, see `ResNetSpec.pool`: ``[N, C, ...] -> [N, features]``.

    Args:
        rectified: whether `x` is at least 0, as after a ReLU, so that the zeros of the padding are never the largest
            values.
    """
    if kind == "average":
        return average(x, mask)
    values = x if rectified or mask is None else blanked(x, mask, float("-inf"))
    if kind in ("max", "average+max"):
        most = values.flatten(2).amax(dim=2)
        if values is not x and mask is not None:  # an item without any position
            most = most.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
        return most if kind == "max" else torch.cat([average(x, mask), most], dim=1)
    positions, values = x.flatten(2), values.flatten(2)
    short = max(0, k_max - positions.shape[2])
    positions, values = F.pad(positions, (0, short)), F.pad(values, (0, short))
    # Stable: among equal values the first are selected, however much padding follows.
    largest = values.sort(dim=2, descending=True, stable=True).indices[:, :, :k_max]
    return positions.gather(2, largest.sort(dim=2).values).flatten(1)
