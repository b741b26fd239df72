"""The line that says what was taken for what, and warnings where that is not plausible."""

from __future__ import annotations

from collections.abc import Sequence

from restune.core.errors import shorten
from restune.data import plausibility
from restune.data.dataset import Dataset
from restune.data.sources.series import SeriesLocation


def series_line(dataset: Dataset, *, channels: Sequence[str] = (), by: str = "", label: str = "") -> str:
    """``12 series of 50 steps x 2 channels (acc_x, acc_y), by case_id, labels from column label (2 classes)``.

    Warns of labels that are no classes, and of constant series.
    """
    places = [item.location for item in dataset.items if isinstance(item.location, SeriesLocation)]
    constant = sum(plausibility.is_constant(place.read()) for place in places)
    plausibility.warn_of_constant_series(constant, len(places), dataset.source)
    parts = [f"{len(places):,} series of {_span([place.length for place in places])} steps"]
    counts = sorted({place.channels for place in places})
    if counts:
        named = f" ({shorten(channels)})" if channels else ""
        parts[0] += f" x {counts[0]} channel{'s' * (counts[0] != 1)}{named}"
    parts.extend([by] if by else [])
    return ", ".join([*parts, labels_part(dataset, label)])


def labels_part(dataset: Dataset, column: str = "") -> str:
    """``labels from column label (6 classes)``. Warns where they may be none."""
    plausibility.warn_of_labels(dataset.class_counts(), dataset.source)
    count = f"{len(dataset.classes):,} class{'es' * (len(dataset.classes) != 1)}"
    return f"labels from column {column} ({count})" if column else count


def _span(lengths: Sequence[int]) -> str:
    least, most = min(lengths, default=0), max(lengths, default=0)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
