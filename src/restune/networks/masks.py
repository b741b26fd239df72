"""Padded series: how layers treat positions that are not there, so that an item does not depend on its padding.

A mask is bool ``[N, L]``, True where an item has a position. Between layers a padded batch is zero where its mask is
False, which is what a convolution would find beyond the end of the item alone. A layer of stride s has an output
where its input has the position ``s * p``: ``ceil(length / s)`` positions, as many as it makes of the item alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedNorm1d(nn.BatchNorm1d):
    """Batch norm that takes its statistics from the positions that are there and leaves zeros at the others."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[N, C, L] -> [N, C, L]``; with a mask ``[N, L]``."""
        if mask is None:
            return super().forward(x)
        if not self.training:
            return blanked(super().forward(x), mask)
        rows = x.transpose(1, 2)  # [N, L, C]
        there = rows[mask]  # [positions, C]
        if len(there) < 2:  # one position has no spread of its own
            kept = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
            return blanked(kept, mask)
        normalised = super().forward(there)
        filled = normalised.new_zeros(rows.shape)
        filled[mask] = normalised
        return filled.transpose(1, 2)


def normed(norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """The norm, or the identity in its place, on what may be padded."""
    normalised: Tensor = norm(x) if mask is None or isinstance(norm, nn.Identity) else norm(x, mask)
    return normalised


def blanked(x: Tensor, mask: Tensor, value: float = 0.0) -> Tensor:
    """``[N, C, L]`` with a number where nothing is."""
    return x.masked_fill(~mask.unsqueeze(1), value)


def strided(mask: Tensor | None, stride: int) -> Tensor | None:
    """The mask after a layer of that stride."""
    return mask if mask is None or stride == 1 else mask[:, ::stride]


def average(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Over all positions that are there: ``[N, C, ...] -> [N, C]``."""
    if mask is None:
        return x.flatten(2).mean(dim=2)
    return x.sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def max_pooled(pool: nn.Module, x: Tensor, mask: Tensor | None, stride: int) -> Tensor:
    """A max pool, to which padding is no candidate, as beyond the end of an item alone."""
    if mask is None:
        largest: Tensor = pool(x)
        return largest
    return blanked(pool(blanked(x, mask, float("-inf"))), mask[:, ::stride])


def pooled(kind: str, x: Tensor, mask: Tensor | None, k_max: int) -> Tensor:
    """What is left of all positions, see `ResNetSpec.pool`: ``[N, C, ...] -> [N, features]``.

    `x` is what a ReLU gave: at least 0, so that zeros in place of padding never are the largest.
    """
    if kind == "average":
        return average(x, mask)
    if kind == "max":
        return x.flatten(2).amax(dim=2)
    if kind == "average+max":
        return torch.cat([average(x, mask), x.flatten(2).amax(dim=2)], dim=1)
    positions = x.flatten(2)
    positions = F.pad(positions, (0, max(0, k_max - positions.shape[2])))
    # Stable, so that of equal numbers the first count, however much padding follows.
    largest = positions.sort(dim=2, descending=True, stable=True).indices[:, :, :k_max]
    return positions.gather(2, largest.sort(dim=2).values).flatten(1)
