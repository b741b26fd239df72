"""The finders that need no network, in the order in which they run."""

from __future__ import annotations

from restune.data.audit.audit import Finder
from restune.data.audit.classes import find_imbalance, find_not_taken, find_small_classes
from restune.data.audit.contents import (
    find_label_twins,
    find_missing_labels,
    find_series_faults,
    find_text_faults,
    find_video_faults,
)

FINDERS: tuple[Finder, ...] = (
    *(find_not_taken, find_small_classes, find_imbalance, find_label_twins, find_missing_labels),
    *(find_text_faults, find_series_faults, find_video_faults),
)
