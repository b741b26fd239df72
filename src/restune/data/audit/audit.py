"""What one pass over the items knows, and the finders that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from restune.data.audit.copies import Copies
from restune.data.audit.findings import Finding
from restune.data.dataset import Dataset

if TYPE_CHECKING:
    from restune.data.audit.image_records import ImageRecords


@dataclass(frozen=True)
class Audit:
    """The data and what one pass over its items found.

    Args:
        dataset: the checked data.
        unreadable: the reason by id of each item that cannot be read.
        images: measurements of images; None for other kinds of data.
        copies: groups of equal and nearly equal items.
    """

    dataset: Dataset
    unreadable: Mapping[str, str] = field(default_factory=dict)
    images: ImageRecords | None = None
    copies: Copies | None = None


Finder = Callable[[Audit], Iterable[Finding]]
"""Returns the findings of one kind or of a few related kinds."""
