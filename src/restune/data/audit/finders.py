"""The finders that need no network, in the order in which they run."""

from __future__ import annotations

from restune.data.audit.audit import Finder
from restune.data.audit.classes import find_imbalance, find_not_taken, find_small_classes, find_unreadable
from restune.data.audit.contents import (
    find_label_twins,
    find_missing_labels,
    find_series_faults,
    find_text_faults,
    find_video_faults,
)
from restune.data.audit.copy_findings import find_copies
from restune.data.audit.odd_images import find_odd_images
from restune.data.audit.spurious import find_spurious_properties

FINDERS: tuple[Finder, ...] = (
    *(find_unreadable, find_not_taken, find_copies, find_odd_images, find_small_classes, find_imbalance),
    *(find_spurious_properties, find_label_twins, find_missing_labels),
    *(find_text_faults, find_series_faults, find_video_faults),
)
