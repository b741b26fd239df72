"""Targets of multi-label classification and of regression: rows of numbers, their names, and their scale."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TASKS = ("single-label", "multi-label", "regression")
"""What a network predicts: one class of each item, any number of labels, or numbers."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TargetScale:
    """The training targets' mean and standard deviation: a network learns targets of mean 0 and deviation 1.

    Args:
        mean, std: one per target, in its own unit.

    >>> import numpy as np
    >>> scale = TargetScale.of(np.array([[10.0], [20.0]], np.float32))
    >>> scale.standardized(np.array([[10.0]], np.float32)).tolist(), scale.values(np.array([[1.0]])).tolist()
    ([[-1.0]], [[20.0]])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, values: Floats) -> TargetScale:
        """Measure the scale of training targets ``[N, C]``; a constant target has the deviation 1."""
        numbers = values.astype(np.float64)
        deviations = numbers.std(axis=0)
        return cls(tuple(numbers.mean(axis=0).tolist()), tuple(np.where(deviations > 0, deviations, 1.0).tolist()))

    def standardized(self, values: Floats) -> Floats:
        """Return targets ``[N, C]`` as the network learns them."""
        scaled: Floats = ((values - np.array(self.mean)) / np.array(self.std)).astype(np.float32)
        return scaled

    def values(self, outputs: NDArray[Any]) -> Floats:
        """Return outputs ``[N, C]`` in the targets' own units: the one place where the scale is undone."""
        restored: Floats = (outputs.astype(np.float64) * np.array(self.std) + np.array(self.mean)).astype(np.float32)
        return restored

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of a bundle's header."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TargetScale:
        """Parse the result of `to_dict`. Raises ValueError, KeyError or TypeError for anything else."""
        mean, std = ([float(value) for value in content[key]] for key in ("mean", "std"))
        if set(content) != {"mean", "std"} or len(mean) != len(std):
            raise ValueError("the scale of the targets is not one mean and one std per target")
        if not all(np.isfinite(mean)) or not all(np.isfinite(std)) or min(std, default=1.0) <= 0:
            raise ValueError("the scale of the targets is not finite, or a std is not above 0")
        return cls(tuple(mean), tuple(std))


def target_codes(rows: NDArray[np.int32], values: Floats | None) -> NDArray[np.int32]:
    """Return one number per item that changes with its target: its class index, or a checksum of its target's values.

    Args:
        rows: the items' targets: class indices, or rows of `values`.
        values: target values ``[rows, C]``; None for class indices.
    """
    if values is None:
        return rows
    own = np.ascontiguousarray(values[rows])
    return np.array([np.int64(zlib.crc32(row.tobytes())) - 2**31 for row in own], np.int64).astype(np.int32)


def with_columns(values: Floats, places: Sequence[int], count: int) -> Floats:
    """Return target values ``[N, count]`` whose column ``places[i]`` is column i of `values`; other columns are 0.

    Columns with the place -1 are left out.
    """
    made = np.zeros((len(values), count), np.float32)
    for column, place in enumerate(places):
        if place >= 0:
            made[:, place] = values[:, column]
    return made


def strata(values: Floats) -> NDArray[np.int32]:
    """Return the stratum of each item of regression, so that splits drawn by stratum have alike targets.

    Bins of equal counts along the targets' first principal component: at most ten, of ten items or more each.

    >>> import numpy as np
    >>> strata(np.arange(20, dtype=np.float32)[:, None]).tolist() == [0] * 10 + [1] * 10
    True
    """
    scaled = TargetScale.of(values).standardized(values).astype(np.float64)
    axis = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)[2][0] if scaled.shape[1] > 1 else np.ones(1)
    along = scaled @ axis
    bins = max(1, min(_MOST_BINS, len(values) // _LEAST_IN_BIN))
    edges = np.unique(np.quantile(along, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    return np.searchsorted(edges, along, side="left").astype(np.int32)


_MOST_BINS, _LEAST_IN_BIN = 10, 10


@dataclass(frozen=True)
class Outputs:
    """What a network's outputs mean.

    Args:
        task: one of `TASKS`.
        thresholds: of multi-label networks, the probability from which an item has each label; None: 0.5.
        scale: of regression, the targets' scale.
    """

    task: str = "single-label"
    thresholds: tuple[float, ...] | None = None
    scale: TargetScale | None = None

    def threshold_row(self, labels: int) -> NDArray[np.float64]:
        """Return the threshold of each of so many labels."""
        return np.full(labels, 0.5) if self.thresholds is None else np.array(self.thresholds)
