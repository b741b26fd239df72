"""Class names: clean and order them, and detect labels of several classes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from restune.core.console import note, warn
from restune.core.errors import UserError, shorten

_INVISIBLE = "\u200b\u2060\ufeff"
"""Zero-width characters of copied text."""
_SEPARATORS = "|;,"
_LISTED = re.compile(r"\[(.*)\]|\{(.*)\}", re.DOTALL)
"""A list or a set in Python or JSON notation."""


def clean_name(text: str) -> str:
    """Normalise a name: Unicode NFC, stripped, each run of white space one blank."""
    if text.isascii() and text.isalnum():
        return text
    return " ".join(unicodedata.normalize("NFC", text).strip(_INVISIBLE).split()).strip(_INVISIBLE)


def class_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort the distinct labels: numerically if all are integers, else as text."""
    names = set(labels)
    if all(re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", name) for name in names):  # 3.0 if a program converted them to floats
        return tuple(sorted(names, key=lambda name: (int(name.partition(".")[0]), name)))
    return tuple(sorted(names))


def cleaned_classes(classes: Sequence[str], where: str) -> tuple[tuple[str, ...], list[int]]:
    """Return the clean, ordered class names, and the new index of each old one.

    Names that are equal once cleaned become one class, with a note. The order of a source that is not sorted is
    preserved. Raises UserError for a name of only white space.
    """
    clean = [clean_name(name) for name in classes]
    if "" in clean:
        raise UserError("the name of a class is only white space", where=where, fix="name that class")
    if clean != list(classes):
        _say_cleaned(classes, clean)
    sorted_by_text = list(classes) == sorted(classes)
    order = class_order(clean) if sorted_by_text else tuple(dict.fromkeys(clean))
    place = {name: position for position, name in enumerate(order)}
    return order, [place[name] for name in clean]


def _say_cleaned(classes: Sequence[str], clean: Sequence[str]) -> None:
    spaced = [name for name, new in zip(classes, clean, strict=True) if unicodedata.normalize("NFC", name) != new]
    if spaced:
        note(f"spaces around or within the names of classes are left out: {shorten(map(repr, spaced), 4)}")
    merged = [name for name, count in Counter(clean).items() if count > 1]
    if merged:
        note(f"one class, written in several ways (white space or Unicode form): {shorten(map(repr, merged), 4)}")


def warn_about_twins(counts: Mapping[str, int]) -> None:
    """Warn of classes whose names are nearly equal; do not merge them."""
    twins = nearly_equal_names(counts)
    if twins:
        listed = "; ".join(
            " and ".join(repr(name) for name in names)
            + f" ({' and '.join(f'{counts[name]:,}' for name in names)} items)"
            for names in twins[:4]
        )
        more = f"; {len(twins) - 4} more" if len(twins) > 4 else ""
        warn(f"classes whose names are nearly equal stay different classes: {listed}{more}")


def nearly_equal_names(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of names that differ only in case, separators or look-alike characters."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[_looks_like(name)].append(name)
    return [group for group in alike.values() if len(group) > 1]


def _looks_like(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def reject_several_labels(labels: Sequence[str], where: str) -> None:
    """Raise UserError where labels hold several classes each, such as ``red|yellow`` beside ``red`` and ``yellow``."""
    for example, parts, mark in composites(labels):
        raise UserError(
            f"the label {example[:80]!r} holds {len(parts)} classes, separated by {mark!r}: "
            f"{shorten(map(repr, parts), 4)}",
            where=where,
            fix=f"in a table, several labels per item (multi-label) are read with --task multi-label --label-separator "
            f"{mark!r}; --task single-label takes the whole text for one class",
        )


def composites(labels: Sequence[str]) -> Iterable[tuple[str, list[str], str]]:
    """Find labels of several classes: lists, and those whose parts are all labels or parts of other labels."""
    for label in labels:
        listed = _LISTED.fullmatch(label.strip())
        if listed:
            parts = [part.strip(" \"'\n") for part in (listed[1] or listed[2] or "").split(",")]
            if len(parts) > 1:
                yield label, parts, ","
    for mark in _SEPARATORS:
        if not any(mark in label for label in labels):
            continue
        split = {label: [part.strip() for part in label.split(mark) if part.strip()] for label in labels}
        found_in = Counter(part for parts in split.values() for part in set(parts))
        for label, parts in split.items():
            if len(parts) > 1 and all(found_in[part] > 1 for part in parts):
                yield label, parts, mark
