"""Progressive resizing: training batches are smaller in the first parts of a run, and the network is faster on them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from restune.core.errors import UserError
from restune.networks.custom import CustomNetwork, Network
from restune.training.recipe import Recipe


@dataclass(frozen=True)
class ImageSizes:
    """The side of training images over a run (Howard 2018 in DAWNBench; Touvron et al. 2019 explain why it works).

    Args:
        parts: pairs of the share of the run at which a part ends, and its side in pixels, in order.
        full: side of the network's input, for the rest of the run and for validation; 0 where there are no parts.

    >>> sizes = ImageSizes(((0.4, 20), (0.7, 26)), 32)
    >>> sizes.at(0.0), sizes.at(0.4), sizes.at(0.9)
    (20, 26, 32)
    """

    parts: tuple[tuple[float, int], ...] = ()
    full: int = 0

    @classmethod
    def of(cls, recipe: Recipe) -> ImageSizes:
        """Return the sizes of a resolved recipe."""
        return cls(tuple((part.until, part.size) for part in recipe.image_sizes), recipe.image_size or 0)

    def at(self, share: float) -> int | None:
        """Return the side of a step that begins at this share of the run; None where images keep their size."""
        if not self.parts:
            return None
        return next((size for until, size in self.parts if share < until - 1e-9), self.full)

    def work(self, share: float) -> float:
        """Return the share of the run's work that is done at a share of its steps: steps cost as much as their pixels.

        >>> round(ImageSizes(((0.5, 16),), 32).work(0.5), 3)
        0.2
        """
        if not self.parts:
            return share
        ends = [0.0, *(until for until, _ in self.parts), 1.0]
        costs = [*(size**2 for _, size in self.parts), self.full**2]
        lengths = [(min(share, end) - min(share, start), end - start) for start, end in pairwise(ends)]
        done = sum(cost * length for cost, (length, _) in zip(costs, lengths, strict=True))
        return done / sum(cost * length for cost, (_, length) in zip(costs, lengths, strict=True))


def resized(images: Tensor, side: int | None) -> Tensor:
    """Resize float images ``[N, C, H, W]`` to squares, bilinear with antialiasing; None leaves them."""
    if side is None or images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def check_image_sizes(recipe: Recipe, network: Network, side: int | None) -> None:
    """Raise UserError for progressive resizing that the run cannot do.

    Args:
        recipe: the recipe.
        network: to be trained.
        side: of its input, pixels; None where it is not an image.
    """
    if not recipe.image_sizes:
        return
    if recipe.freeze != "none":
        raise UserError(
            "images of several sizes need all layers trainable: frozen layers are computed once, at full size",
            where="image_sizes",
            fix="use --freeze none, or --set image_sizes=[]",
        )
    if isinstance(network, CustomNetwork):
        raise UserError(
            "images of several sizes need one of restune's networks",
            where="image_sizes",
            fix="use --set image_sizes=[]",
        )
    largest = max(part.size for part in recipe.image_sizes)
    if side is not None and largest > side:
        raise UserError(
            f"images of {largest} pixels are larger than the network's input of {side}",
            where="image_sizes",
            fix=f"use sizes below {side}, or a larger --image-size",
        )
