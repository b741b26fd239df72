"""Describe in one line how the data was interpreted, and warn if that is implausible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from restune.core.errors import shorten
from restune.data import plausibility
from restune.data.dataset import Dataset, FileLocation
from restune.data.kinds import KINDS
from restune.data.sources.series import SeriesLocation

_LOOKED_AT = 200


def series_line(
    dataset: Dataset, *, channels: Sequence[str] = (), columns: Sequence[str] = (), by: str = "", label: str = ""
) -> str:
    """Describe series: ``12 series of 50 steps x 2 channels (acc_x, acc_y), by case_id, labels from column label``.

    Warns of constant series, and of positions (`columns` of a table) far larger than the others.
    """
    places = [item.location for item in dataset.items if isinstance(item.location, SeriesLocation)]
    constant = sum(plausibility.is_constant(place.read()) for place in places)
    plausibility.warn_of_constant_series(constant, len(places), dataset.source)
    _warn_of_sizes(places, columns)
    parts = [f"{len(places):,} series of {_span([place.length for place in places])} steps"]
    counts = sorted({place.channels for place in places})
    if counts:
        named = f" ({shorten(channels)})" if channels else ""
        parts[0] += f" x {counts[0]} channel{'s' * (counts[0] != 1)}{named}"
    parts.extend([by] if by else [])
    parts.extend([labels_from(label)] if label else [])
    return ", ".join(parts)


def _warn_of_sizes(places: Sequence[SeriesLocation], columns: Sequence[str]) -> None:
    """Warn where one position of the series, such as the first, is far larger than the others: it may be an id."""
    shapes = {(place.channels, place.length) for place in places[:_LOOKED_AT]}
    if len(shapes) == 1 and next(iter(shapes))[0] == 1:
        values = np.stack([place.read()[0] for place in places[:_LOOKED_AT]]).astype(np.float64)
        names = columns or [str(place) for place in range(1, values.shape[1] + 1)]
        plausibility.warn_of_sizes(names, values)


def described(dataset: Dataset) -> Dataset:
    """Set the data set's `reading`: its source's description, or one of its items, and its classes.

    Warns of labels that may not be labels.
    """
    if not dataset.classes:
        return dataset
    first = dataset.items[0]
    line = dataset.reading or (series_line(dataset) if isinstance(first.location, SeriesLocation) else "")
    count = len(dataset.classes)
    if dataset.task != "single-label":
        items = line or f"{len(dataset):,} {KINDS[dataset.kind].noun}"
        names = shorten(map(repr, dataset.classes), 4)
        what = f"{count:,} labels" if dataset.task == "multi-label" else f"regression of {names}"
        return replace(dataset, reading=f"{items}, {what}")
    if line:
        plausibility.warn_of_labels(dataset.class_counts(), dataset.source)
        return replace(dataset, reading=f"{line} ({count:,} class{'es' * (count != 1)})")
    in_folders = isinstance(first.location, FileLocation) and "/" in first.id and Path(dataset.source).is_dir()
    where = f" in {count:,} class folders" if in_folders else f", {count:,} classes"
    return replace(dataset, reading=f"{len(dataset):,} {KINDS[dataset.kind].noun}{where}")


def labels_from(column: str) -> str:
    """Describe the label column: ``labels from column label``."""
    return f"labels from column {column}"


def _span(lengths: Sequence[int]) -> str:
    least, most = min(lengths, default=0), max(lengths, default=0)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
