"""One pass over the items of any kind of data, for the finders."""

from __future__ import annotations

import numpy as np

from restune.data.audit.audit import Audit
from restune.data.audit.candidates import candidate_pairs
from restune.data.audit.copies import Copies, grouped_copies, numbered, representatives
from restune.data.audit.image_records import ImageRecords, read_images
from restune.data.audit.perceptual import TRANSFORMS, is_comparable
from restune.data.audit.series_copies import copies_of_others
from restune.data.audit.text_copies import copies_of_texts
from restune.data.audit.verify import verified
from restune.data.audit.video_copies import copies_of_videos
from restune.data.dataset import Dataset

_CHANGES = ("re-encoded, resized or brightened", *(one.name for one in TRANSFORMS[1:]), *5 * ("cut out",))
_LEAST_SIDE = 16
"""Shorter side below which images are only compared by their pixels: digits of 8 x 8 all resemble each other."""


def scan(dataset: Dataset, workers: int | None = None, encoding: str | None = None) -> Audit:
    """Read every item once: measure images, and group copies.

    Args:
        dataset: of any kind.
        workers: threads; None: one per core.
        encoding: of text files; None detects it.
    """
    if dataset.kind == "image":
        images, unreadable = read_images(dataset, workers)
        return Audit(dataset, unreadable, images, copies_of_images(images))
    if dataset.kind == "text":
        copies, unreadable = copies_of_texts(dataset, encoding)
    elif dataset.kind == "video":
        copies, unreadable = copies_of_videos(dataset, workers)
    else:
        copies, unreadable = copies_of_others(dataset)
    return Audit(dataset, unreadable, None, copies)


def copies_of_images(images: ImageRecords) -> Copies:
    """Group images of equal content or pixels, and those that are copies of others."""
    exact = numbered(images.contents, images.pixels, is_known=images.is_read)
    rows = representatives(exact)
    rows = rows[images.is_read[rows]]
    is_large = np.minimum(images["width"], images["height"]) >= _LEAST_SIDE
    rows = rows[(is_large & is_comparable(images.thumbnails))[rows]]
    thumbnails = images.thumbnails[rows]
    sides = np.maximum(images["width"], images["height"])[rows].astype(np.int64)
    pairs = verified(thumbnails, sides, candidate_pairs(thumbnails))
    return grouped_copies(exact, rows[pairs.first], rows[pairs.second], pairs.scores, pairs.change, _CHANGES)
