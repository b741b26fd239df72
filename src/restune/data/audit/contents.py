"""Findings about the content of texts, series and videos, and about the names of classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.console import progress
from restune.core.machine import cpu_count
from restune.data.ahead import ahead_in_groups
from restune.data.audit.audit import Audit
from restune.data.audit.findings import Finding
from restune.data.class_names import nearly_equal_names
from restune.data.dataset import Item
from restune.data.items import targets_of
from restune.data.pixels import DecodeError
from restune.data.plausibility import is_constant

_PROPERTY = 0.1
"""Share of the items from which a finding is a property of the data set, reported once."""
_FEW = 10
"""Findings that are always listed one by one."""
_FAR = 5.0
"""Robust standard deviations of log lengths from which a length is odd."""
_LEAST_RATIO = 4.0
"""Ratio to the median below which no length is odd."""
_MISSING = 0.05
_SATURATED = 0.1
_LEAST_RUN = 5
_LEAST_VALUES = 10
"""Distinct values below which a series is a sequence of states, which stay at their limits."""
_SHORT_VIDEO = 16
"""Frames of the shortest clip that the video networks were trained on."""
_STILL = 1.0
"""Mean difference of frames in grey levels below which a video does not move."""
_MISREAD = re.compile("[ÂÃâ][\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸ€¢£¥©®±»¿°]")
"""UTF-8 read as a Western encoding: é becomes Ã©, a curved quote â€™."""


def find_label_twins(audit: Audit) -> Iterator[Finding]:
    """Report classes whose names differ in case, separators or look-alike characters only."""
    counts = audit.dataset.class_counts()
    for names in nearly_equal_names(counts):
        listed = ", ".join(f"{name!r} ({counts[name]})" for name in names)
        smallest = min(counts[name] for name in names)
        yield Finding("", "label-twins", "warning", smallest / sum(counts.values()), f"look: one class? {listed}")


def find_missing_labels(audit: Audit) -> Iterator[Finding]:
    """Report items without a label."""
    for position in np.flatnonzero(targets_of(audit.dataset.items) < 0).tolist():
        yield Finding(audit.dataset.items[position].id, "missing-label", "serious", 1.0, "drop: it has no label")


def find_text_faults(audit: Audit) -> Iterator[Finding]:
    """Report empty texts, texts of odd length, and texts that were read in the wrong encoding."""
    if audit.dataset.kind != "text":
        return
    from restune.data.preprocess.text import TextPreprocess

    decode = TextPreprocess().text_of
    lengths: dict[str, int] = {}
    faults: list[Finding] = []
    for item, text in _contents(audit, lambda item: decode(item.location.read())):
        if not text.strip():
            faults.append(Finding(item.id, "flat", "serious", 1.0, "drop: an empty text"))
            continue
        lengths[item.id] = len(text)
        faults.extend(_encoding_fault(item.id, text))
    yield from _collapsed(faults, len(audit.dataset))
    yield from _collapsed(_odd_lengths(lengths, "characters"), len(audit.dataset))


def find_series_faults(audit: Audit) -> Iterator[Finding]:
    """Report constant series, missing values, values that stop at a limit, and odd lengths."""
    if audit.dataset.kind != "signal":
        return
    from restune.data.wav import decode_wav

    def read(item: Item) -> NDArray[Any]:
        content = item.location.read()
        return np.atleast_2d(decode_wav(content, None) if isinstance(content, bytes) else np.asarray(content))

    lengths: dict[str, int] = {}
    faults: list[Finding] = []
    for item, series in _contents(audit, read):
        lengths[item.id] = series.shape[1]
        faults.extend(_series_faults(item.id, series.astype(np.float64)))
    yield from _collapsed(faults, len(audit.dataset))
    yield from _collapsed(_odd_lengths(lengths, "values"), len(audit.dataset))


def find_video_faults(audit: Audit) -> Iterator[Finding]:
    """Report videos of few frames and videos that do not move."""
    if audit.dataset.kind != "video":
        return
    from restune.data.preprocess.video import VideoPreprocess
    from restune.data.video import probe

    clip = VideoPreprocess(frames=1, crop=32, resize=None, clips=3)

    def read(item: Item) -> tuple[int, float]:
        frames = clip.views(item.location.read(), "spread")[:, :, 0].float()
        return len(probe(item.location.read())), float((frames - frames.mean(0)).abs().mean())

    faults: list[Finding] = []
    for item, (count, change) in _contents(audit, read):
        if count < _SHORT_VIDEO:
            faults.append(
                Finding(item.id, "odd-size", "warning", 1 - count / _SHORT_VIDEO, f"look: a video of {count} frames")
            )
        if change < _STILL:
            faults.append(Finding(item.id, "flat", "warning", 1 - change / _STILL, "look: nothing moves in this video"))
    yield from _collapsed(faults, len(audit.dataset))


def _contents(audit: Audit, read: Callable[[Item], Any]) -> Iterator[tuple[Item, Any]]:
    """Yield each readable item with what `read` makes of it."""

    def attempt(item: Item) -> Any:
        try:
            return read(item)
        except (DecodeError, OSError, ValueError, MemoryError):
            return None

    items = audit.dataset.items
    with progress("reading", len(items)) as advance:
        for item, made in zip(items, ahead_in_groups(attempt, items, cpu_count(), 16), strict=True):
            if made is not None:
                yield item, made
            advance(1)


def _encoding_fault(name: str, text: str) -> Iterator[Finding]:
    if "\ufffd" in text:
        share = text.count("\ufffd") / len(text)
        yield Finding(name, "mixed-encoding", "warning", share, "look: characters were lost (U+FFFD)")
        return
    found = _MISREAD.findall(text)
    if found:
        share = 2 * len(found) / len(text)
        yield Finding(name, "mixed-encoding", "warning", share, f"look: UTF-8 read in another encoding ({found[0]!r})")


def _series_faults(name: str, series: NDArray[np.float64]) -> Iterator[Finding]:
    missing = float(np.isnan(series).mean())
    if missing >= _MISSING:
        yield Finding(name, "missing-values", "warning", missing, f"look: {missing:.0%} of the values are missing")
    if is_constant(series.astype(np.float32)):
        yield Finding(name, "flat", "warning", 1.0, "look: every value is the same")
        return
    for number, row in enumerate(series, 1):
        known = row[np.isfinite(row)]
        if len(np.unique(known)) < _LEAST_VALUES:
            continue
        run = max(_longest_at(known, known.max()), _longest_at(known, known.min()))
        stuck = run / len(known)
        if stuck >= _SATURATED and run >= _LEAST_RUN:
            where = f" of channel {number}" if len(series) > 1 else ""
            text = f"look: {stuck:.0%} of the values{where} in a row are the largest or smallest one"
            yield Finding(name, "saturated", "warning", stuck, text)
            return


def _longest_at(values: NDArray[np.float64], level: float) -> int:
    """Return the length of the longest run of values at a level."""
    is_at = np.concatenate([[0], (values == level).astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(is_at))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _odd_lengths(lengths: dict[str, int], unit: str) -> Iterator[Finding]:
    """Yield the items whose length differs from the median far more than is usual."""
    if len(lengths) < 2 * _LEAST_VALUES:
        return
    logs = np.log(np.maximum(np.fromiter(lengths.values(), np.float64), 1))
    off = np.abs(logs - np.median(logs))
    limit = max(_FAR * 1.4826 * float(np.median(off)), float(np.log(_LEAST_RATIO)))
    middle = int(np.median(list(lengths.values())))
    for (name, length), distance in zip(lengths.items(), off.tolist(), strict=True):
        if distance > limit:
            text = f"look: {length:,} {unit}, the median is {middle:,}"
            yield Finding(name, "odd-size", "note", 1 - float(np.exp(-distance)), text)


def _collapsed(findings: Iterable[Finding], total: int) -> Iterator[Finding]:
    """Yield findings; one of over 10% of the items, and over 10 of them, is a property of the set, reported once."""
    by_name: dict[str, list[Finding]] = {}
    for one in findings:
        by_name.setdefault(one.finding, []).append(one)
    for name, members in by_name.items():
        share = len({one.item for one in members}) / total
        if share > _PROPERTY and len(members) > _FEW and members[0].action != "drop":
            example = f"{members[0].item}: {members[0].details}"
            yield Finding("", name, "note", share, f"look: {share:.0%} of the items, such as {example}")
        else:
            yield from members
