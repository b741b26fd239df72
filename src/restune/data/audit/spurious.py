"""Properties of images that predict their label: a network may learn them instead of the object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from restune.core.streams import generator
from restune.data.audit.audit import Audit
from restune.data.audit.findings import Finding
from restune.data.items import targets_of

if TYPE_CHECKING:
    from restune.data.audit.image_records import ImageRecords

_PROPERTIES = {
    "brightness": ("brightness",), "contrast": ("contrast",), "colour": ("red", "green", "blue", "colourfulness"),
    "size": ("width", "height"), "shape": ("ratio",), "file format": ("format",), "compression": ("bytes_per_pixel",),
    "sharpness": ("sharpness",),
}  # fmt: skip
_OF_FILES = ("size", "shape", "file format", "compression")
"""Properties of files, which say nothing about what is in the picture."""
_MOST_IMAGES = 5000
"""Images that are looked at, drawn at random."""
_FOLDS, _PERMUTATIONS = 5, 20
_NEIGHBOURS = 15
_LEAST_IMAGES = 40
_WARNING, _SERIOUS = 0.3, 0.8
"""Share of the way from chance to certainty that a property goes: 0 is guessing, 1 predicts every label."""
_SIGMAS = 5.0
"""Standard deviations of balanced accuracy with shuffled labels that are exceeded."""


@dataclass(frozen=True)
class _Link:
    """How well a property predicts the label: balanced accuracy, its mean with shuffled labels, and the share."""

    accuracy: float
    chance: float
    share: float


def find_spurious_properties(audit: Audit) -> Iterator[Finding]:
    """Report properties whose balanced accuracy, cross-validated, is far above that of shuffled labels."""
    if audit.images is None or len(audit.dataset.classes) < 2 or audit.dataset.task != "single-label":
        return
    targets = targets_of(audit.dataset.items)
    rows = _drawn(np.flatnonzero(audit.images.is_read & (targets >= 0)))
    if len(rows) < _LEAST_IMAGES or len(np.unique(targets[rows])) < 2:
        return
    for name, columns in _PROPERTIES.items():
        values = np.stack([_column(audit.images, column)[rows] for column in columns], 1)
        link = _predicted(values, targets[rows])
        if link is None or link.share < _WARNING:
            continue
        examples = _examples(values[:, 0], targets[rows], audit.dataset.classes) if len(columns) == 1 else ""
        suggestion = (
            f"look: {name} alone predicts the label with {link.accuracy:.0%} balanced accuracy "
            f"({link.chance:.0%} with shuffled labels){examples}"
        )
        severity = "serious" if link.share >= _SERIOUS and name in _OF_FILES else "warning"
        yield Finding("", "spurious-property", severity, link.share, suggestion)


def _column(images: ImageRecords, name: str) -> NDArray[np.float32]:
    if name == "ratio":
        return np.asarray(images["width"] / np.maximum(1, images["height"]), np.float32)
    return images[name]


def _drawn(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(rows) <= _MOST_IMAGES:
        return rows
    return np.sort(generator(0, "audit-properties").permutation(rows)[:_MOST_IMAGES])


def _predicted(values: NDArray[np.float32], targets: NDArray[np.int32]) -> _Link | None:
    """Compare nearest-neighbour votes on held-out folds with those for shuffled labels; None without a difference."""
    if np.ptp(values, axis=0).max() == 0:
        return None
    _, codes, counts = np.unique(targets, return_inverse=True, return_counts=True)
    neighbours = _neighbours(values)
    accuracy = _balanced(neighbours, codes, counts)
    random = generator(0, "audit-permutations")
    shuffled = np.array([_balanced(neighbours, random.permutation(codes), counts) for _ in range(_PERMUTATIONS)])
    chance = float(shuffled.mean())
    if accuracy < chance + _SIGMAS * max(float(shuffled.std()), 0.5 / len(targets)):
        return None
    return _Link(accuracy, chance, (accuracy - chance) / max(1e-9, 1 - chance))


def _neighbours(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return each item's nearest items in the other folds.

    Ranks replace the values of each column, so that scales do not matter.
    """
    from scipy.spatial import cKDTree
    from scipy.stats import rankdata

    points = np.stack([rankdata(column) for column in values.T], 1) / len(values)
    points = points + generator(0, "audit-ties").uniform(0, 1e-6, points.shape)  # equal values: any of them
    folds = generator(0, "audit-folds").integers(0, _FOLDS, len(points))
    nearest = np.zeros((len(points), _NEIGHBOURS), np.int64)
    for fold in range(_FOLDS):
        held, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        count = min(_NEIGHBOURS, len(others))
        _, found = cKDTree(points[others]).query(points[held], count)
        nearest[held] = others[np.resize(found.reshape(len(held), count), (len(held), _NEIGHBOURS))]
    return nearest


def _balanced(neighbours: NDArray[np.int64], codes: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """Return the mean recall of votes that weigh each class by its inverse size."""
    votes = np.zeros((len(codes), len(counts)))
    weights = 1 / counts
    for column in codes[neighbours].T:
        votes[np.arange(len(codes)), column] += weights[column]
    is_right = votes.argmax(1) == codes
    return float(np.mean([is_right[codes == code].mean() for code in range(len(counts))]))


def _examples(values: NDArray[np.float32], targets: NDArray[np.int32], classes: tuple[str, ...]) -> str:
    """Return the classes with the lowest and the highest median."""
    medians = {target: float(np.median(values[targets == target])) for target in np.unique(targets).tolist()}
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    return f"; lowest for {classes[low]!r}, highest for {classes[high]!r}"
