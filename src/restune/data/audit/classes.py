"""Findings about classes, unreadable items and skipped files."""

from __future__ import annotations

from collections.abc import Iterator

from restune.data.audit.audit import Audit
from restune.data.audit.findings import Finding
from restune.data.not_taken import EMPTY, SIDE_FILES

SMALLEST_CLASS = 5
"""Items below which training refuses a class."""
_SMALL_CLASS = 20
"""Items below which a class's score says little: the 95% interval of 20 of 20 right is 84% to 100%."""
STRONG_IMBALANCE = 5.0
"""Ratio of the largest to the smallest class from which it is reported; training notes the same."""


def find_not_taken(audit: Audit) -> Iterator[Finding]:
    """Report the source's files that are not items, one finding per folder and suffix."""
    total = max(1, len(audit.dataset) + sum(one.count for one in audit.dataset.not_taken))
    for one in audit.dataset.not_taken:
        is_usual = one.suffix in SIDE_FILES and one.suffix != EMPTY and not one.has_no_label
        yield Finding(
            one.pattern, "not-taken", "note" if is_usual else "warning", one.count / total, f"look: {one.reason}"
        )


def find_unreadable(audit: Audit) -> Iterator[Finding]:
    """Report items that cannot be read, with the reason."""
    for name, reason in audit.unreadable.items():
        yield Finding(name, "unreadable", "serious", 1.0, f"drop: {reason}")


def find_small_classes(audit: Audit) -> Iterator[Finding]:
    """Report classes with too few items to learn from, or to measure a score on."""
    if audit.dataset.task == "regression":
        return
    for name, count in audit.dataset.class_counts().items():
        if count < SMALLEST_CLASS:
            suggestion = f"look: {name!r} has {count} items, training needs {SMALLEST_CLASS}; add some"
            yield Finding("", "small-class", "serious", count / _SMALL_CLASS, suggestion)
        elif count < _SMALL_CLASS:
            suggestion = f"look: {name!r} has {count} items, so its score will be uncertain; add some"
            yield Finding("", "small-class", "warning", count / _SMALL_CLASS, suggestion)


def find_imbalance(audit: Audit) -> Iterator[Finding]:
    """Report a largest class several times the size of the smallest one."""
    counts = {name: count for name, count in audit.dataset.class_counts().items() if count}
    if len(counts) < 2 or audit.dataset.task != "single-label":
        return
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] < STRONG_IMBALANCE * counts[smallest]:
        return
    text = f"{largest!r} has {counts[largest]} items, {smallest!r} {counts[smallest]}"
    yield Finding(
        "",
        "imbalance",
        "warning",
        counts[largest] / sum(counts.values()),
        f"look: {text}; train with --set class_weights=balanced, judge by balanced accuracy",
    )
