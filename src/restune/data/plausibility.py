"""What a reading of data must stand: ids that are no values, labels that are no classes, texts that share no words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from restune.core.console import warn
from restune.core.errors import shorten
from restune.data.tokens import words


def word_set(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


ENTITIES = word_set(
    "subject patient participant person user customer unit device machine engine bearing animal vehicle record "
    "key uid uuid guid mrn barcode serial 编号 样本 患者 用户"
)
SERIES_WORDS = word_set(
    "case series sequence seq recording rec trial episode run segment instance experiment session trajectory "
    "track sample 序列 记录"
)
"""Words of a column that says which series a row belongs to."""
_COUNTERS = word_set("id ids no nr num number index idx row line unnamed 序号 行号")
_ENOUGH = 10
"""Fewest rows of which their values say anything."""
MOST_SPREAD = 10_000
_TEXTS_SEEN = 2000
_FEW_TEXTS = 50
_ALMOST_ALL = 0.8


def words_of(name: str) -> list[str]:
    """The words of a column's name in lower case: of ``case_id``, ``caseId`` and ``Case ID`` case and id."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_]+|(?<=[a-zA-Z])(?=\d)", apart.lower()) if word]


def is_identifier_name(name: str) -> bool:
    """Whether a column's name says that it counts or names rows: ``patient_id``, ``id``, ``row number``, ``index``."""
    parts = words_of(name)
    kinds = ENTITIES | SERIES_WORDS
    if not parts or name.lower() in ("patientid", "userid", "caseid", "sampleid", "subjectid", "recordid", "seriesid"):
        return True
    is_known = all(part in _COUNTERS or part in kinds or part.isdigit() for part in parts)
    return parts[-1] in ("id", "ids", "uuid", "guid") or (is_known and not parts[-1].isdigit())


def identifiers(names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
    """The columns of a table that are ids, not values: by their name, as row numbers, or as large whole numbers, all
    different, beside columns of other names.

    Args:
        names: of the columns.
        values: ``[rows, columns]`` of the first rows, NaN for what is missing.
    """
    spreads = _spreads(values)
    found = []
    for place, name in enumerate(names):
        column = values[:, place]
        others = np.delete(spreads, place)
        usual = float(np.median(others)) if len(others) else 0.0
        by_size = 0 < usual * MOST_SPREAD < spreads[place] and not _is_alike(name, names)
        if is_identifier_name(name):
            if _is_whole(column):
                found.append(name)
        elif _is_whole(column) and len(column) >= _ENOUGH:
            counts_rows = bool((np.diff(column) == 1).all()) and column[0] in (0, 1)
            if counts_rows or (by_size and len(np.unique(column)) == len(column)):
                found.append(name)
    return found


def warn_of_repeated_ids(name: str, values: NDArray[np.float64]) -> None:
    """Warn where rows share an id and may so lie on both sides of a split."""
    distinct = len(np.unique(values))
    if len(values) >= _ENOUGH and 2 * distinct <= len(values):
        warn(
            f"column {name!r} has {distinct:,} different values in {len(values):,} rows: rows of one value may lie in "
            f"several splits; --group-column {name!r} keeps them together, --case-column {name!r} makes them one series"
        )


def warn_of_spreads(names: Sequence[str], values: NDArray[np.float64]) -> None:
    """Warn where one column's spread is ten thousand times that of the others, which it drowns."""
    spreads = _spreads(values)
    varying = spreads[spreads > 0]
    if len(values) < _ENOUGH or len(varying) < 2:
        return
    widest = int(spreads.argmax())
    usual = float(np.median(varying))
    if spreads[widest] >= MOST_SPREAD * usual:
        warn(
            f"column {names[widest]!r} spreads {spreads[widest] / usual:,.0f} times as wide as the others, which "
            "become nearly constant where a series is normalised; remove it if it is not a value"
        )


def warn_of_labels(counts: dict[str, int], source: str) -> None:
    """Warn where almost every item has a label of its own, and where labels look like lists of labels."""
    total = sum(counts.values())
    if total >= _ENOUGH and len(counts) > _ALMOST_ALL * total:
        warn(f"{source}: {len(counts):,} different labels in {total:,} items; are they ids rather than classes?")
    joined = joined_labels(counts)
    if joined:
        warn(
            f"{source}: some labels look like several, such as {shorten(map(repr, joined), 3)}; each is taken as one "
            "class, since an item has one label"
        )


def joined_labels(labels: Iterable[str]) -> list[str]:
    """Labels that are made of others: ``sport|news`` beside ``sport`` or ``news|art``, and lists as ``['a', 'b']``."""
    known = list(labels)
    parts = {label: [part.strip() for part in re.split(r"[|;,]", label)] for label in known}
    uses = Counter(part for found in parts.values() for part in set(found))
    repeated = {part for part, count in uses.items() if count > 1}
    return [
        label
        for label, found in parts.items()
        if len(found) > 1
        and (all(part and part in repeated for part in found) or re.fullmatch(r"[\[{(].*[\])}]", label))
    ]


def warn_of_constant_series(constant: int, total: int, source: str) -> None:
    """Warn of series whose values never change."""
    if constant:
        warn(
            f"{source}: {constant:,} of {total:,} series are constant in every channel: nothing can be learnt from them"
        )


def is_constant(series: NDArray[np.float32]) -> bool:
    """Whether a series ``[C, L]`` of more than one step has one value in each channel."""
    if series.shape[1] < 2:
        return False
    first = series[:, :1]
    return bool(((series == first) | np.isnan(series)).all())


def warn_of_words(texts: Sequence[str], source: str) -> None:
    """Warn where nearly every word of the texts stands there once: they are names or ids, or are not cut into words."""
    step = max(1, len(texts) // _TEXTS_SEEN)
    seen = [words(text[:10_000]) for text in texts[::step]]
    seen = [found for found in seen if found]
    total = sum(map(len, seen))
    if len(seen) < _FEW_TEXTS:
        return
    distinct = len({word for found in seen for word in found})
    if distinct > _ALMOST_ALL * total:
        warn(
            f"{source}: the texts share almost no words ({distinct:,} different ones among {total:,}); if they are "
            "names or ids, name the column of texts with --text-column; if no spaces separate their words, "
            "--set text.tokens=bytes reads characters"
        )


def _spreads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation of each column, what is missing left out."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(axis=0) / count
    apart = np.where(known, filled - mean, 0.0)
    spreads: NDArray[np.float64] = np.sqrt((apart**2).sum(axis=0) / count)
    return spreads


def _is_whole(column: NDArray[np.float64]) -> bool:
    known = column[np.isfinite(column)]
    return bool(len(known)) and bool((known == np.floor(known)).all())


def _is_alike(name: str, names: Sequence[str]) -> bool:
    """Whether a name is one of a numbered row, as ``t7`` is beside ``t0`` to ``t99``."""
    stem = re.sub(r"\d+", "", name)
    return stem != name and sum(re.sub(r"\d+", "", other) == stem for other in names) > 1
