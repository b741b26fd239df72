"""Properties of scored items by which an evaluation is sliced: brightness, contrast, sharpness, size, length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restune.data.decode import read_size
from restune.data.items import Item
from restune.data.loader import Batch


class PropertyColumns:
    """Collects the properties of readable items, batch by batch, from the samples that the network sees.

    Images have brightness, contrast and sharpness of the input image, and size and aspect ratio of the original; texts
    and series have a length, of tokens and of steps.

    Args:
        kind: of the data.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: list[Mapping[str, NDArray[np.float64]]] = []

    def add(self, batch: Batch) -> None:
        """Add the readable items of a batch."""
        if batch.samples is None:
            return
        first = batch.samples[:, 0]
        if self.kind == "image":
            self._parts.append({**_appearance(first), **_shape(batch.readable())})
        elif self.kind == "text":
            self._parts.append({"length": _numbers((first != 0).sum(dim=-1))})
        elif self.kind == "signal":
            self._parts.append({"length": _numbers((~first.isnan()).any(dim=1).sum(dim=-1))})

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Return each property's values ``[N]``; NaN where an item's is unknown."""
        names = self._parts[0] if self._parts else {}
        return {name: np.concatenate([part[name] for part in self._parts]) for name in names}


def _appearance(images: Tensor) -> dict[str, NDArray[np.float64]]:
    """Return mean and standard deviation of the grey levels, and their Laplacian's, of images ``[N, C, H, W]``."""
    grey = images.float().mean(dim=1)
    columns = {"brightness": _numbers(grey.mean(dim=(1, 2))), "contrast": _numbers(grey.std(dim=(1, 2)))}
    if min(grey.shape[1:]) >= 3:
        inner = grey[:, 1:-1, 1:-1]
        around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        columns["sharpness"] = _numbers((around - 4 * inner).std(dim=(1, 2), correction=0))
    return columns


def _shape(items: Iterable[Item]) -> dict[str, NDArray[np.float64]]:
    """Return the shorter side in pixels, and width over height, of the original images."""
    sizes = [read_size(item.location) or (np.nan, np.nan) for item in items]
    height, width = np.array(sizes, np.float64).reshape(-1, 2).T
    return {"size": np.minimum(height, width), "aspect ratio": width / np.maximum(height, 1)}


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return values.to(torch.float64).cpu().numpy()
