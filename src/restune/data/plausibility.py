"""Check that data was read plausibly: ids are not values, labels are classes, texts share words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restune.core.console import warn
from restune.data.tokens import words


def word_set(words: str) -> frozenset[str]:
    """Split a text into a set of words."""
    return frozenset(words.split())


ENTITIES = word_set(
    "subject patient participant person user customer unit device machine engine bearing animal vehicle record "
    "key uid uuid guid mrn barcode serial 编号 样本 患者 用户"
)
SERIES_WORDS = word_set(
    "case series sequence seq recording rec trial episode run segment instance experiment session trajectory "
    "track sample 序列 记录"
)
"""Words in the name of a column of series ids."""
_TIMES = word_set(
    "time times timestamp timestamps timestep timesteps step steps tick ticks t ts date datetime frame cycle "
    "cycles hour hours minute minutes second seconds sec secs day days week weeks month months elapsed zeit "
    "zeitstempel datum 时间 时刻 时间戳 日期"
)
_WITH_TIME = word_set("s ms us ns utc index idx id no nr num number stamp of point in since start local unix h min")
_COUNTED = word_set("reading measurement observation obs point position order")
COUNTS = word_set("id no nr num number index idx")
_COUNTERS = word_set("id ids no nr num number index idx row line unnamed 序号 行号")
_FEW_COLUMNS = 8
_ENOUGH = 10
"""Minimum rows from which a column's values are judged."""
MOST_TIMES = 10_000
_TEXTS_SEEN = 2000
_FEW_TEXTS = 50
_ALMOST_ALL = 0.8


def words_of(name: str) -> list[str]:
    """Split a column name into lower-case words: ``case_id``, ``caseId`` and ``Case ID`` give case and id."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_]+|(?<=[a-zA-Z])(?=\d)", apart.lower()) if word]


def is_identifier_name(name: str) -> bool:
    """Return whether a column's name means row ids or numbers: ``patient_id``, ``id``, ``row number``, ``index``."""
    parts = words_of(name)
    kinds = ENTITIES | SERIES_WORDS
    if not parts or name.lower() in ("patientid", "userid", "caseid", "sampleid", "subjectid", "recordid", "seriesid"):
        return True
    is_known = all(part in _COUNTERS or part in kinds or part.isdigit() for part in parts)
    return parts[-1] in ("id", "ids", "uuid", "guid") or (is_known and not parts[-1].isdigit())


def is_time_name(name: str) -> bool:
    """Return whether a column's name is that of times."""
    parts = words_of(name)
    if any(part in _TIMES for part in parts):
        return all(part in _TIMES or part in _WITH_TIME for part in parts)
    return len(parts) == 2 and parts[0] in _COUNTED and parts[1] in COUNTS


def identifiers(names: Sequence[str], values: NDArray[np.float64]) -> list[str]:
    """Return the columns of a table that are ids or times of rows, not values.

    They are recognised by name, as row numbers, or as large integers that are all different.

    Args:
        names: of the columns.
        values: ``[rows, columns]`` of the first rows, NaN for missing values.
    """
    sizes = _sizes(values)
    stems = [re.sub(r"\d+", "", name) for name in names]  # numbered names, such as t0 to t99, share one stem
    alike = Counter(stems)
    middle = float(np.median(sizes)) if len(sizes) > 1 else 0.0
    found = []
    for place, name in enumerate(names):
        column = values[:, place]
        usual = middle
        if 1 < len(names) <= _FEW_COLUMNS:
            usual = float(np.median(np.delete(sizes, place)))
        is_apart = place in (0, len(names) - 1) or stems[place] == name or alike[stems[place]] < 2
        by_size = is_apart and 0 < usual * MOST_TIMES < sizes[place]
        differ = len(column) >= _ENOUGH and len(np.unique(column)) == len(column)
        if is_time_name(name):
            found.extend([name] if differ and len(names) > _FEW_COLUMNS else [])
        elif is_identifier_name(name):
            if _is_whole(column):
                found.append(name)
        elif _is_whole(column) and len(column) >= _ENOUGH:
            counts_rows = bool((np.diff(column) == 1).all()) and column[0] in (0, 1)
            if counts_rows or (by_size and differ):
                found.append(name)
    return found


def warn_of_repeated_ids(name: str, values: NDArray[np.float64]) -> None:
    """Warn if rows share an id and may therefore be in several splits."""
    distinct = len(np.unique(values))
    if len(values) >= _ENOUGH and 2 * distinct <= len(values):
        warn(
            f"column {name!r} has {distinct:,} different values in {len(values):,} rows: rows of one value may be in "
            f"several splits; --group-column {name!r} keeps them together, --case-column {name!r} makes them one series"
        )


def warn_of_sizes(names: Sequence[str], values: NDArray[np.float64]) -> None:
    """Warn if one column is ten thousand times as large as the others and dominates them."""
    sizes = _sizes(values)
    filled = sizes[sizes > 0]
    if len(values) < _ENOUGH or len(filled) < 2:
        return
    largest = int(sizes.argmax())
    usual = float(np.median(filled))
    if sizes[largest] >= MOST_TIMES * usual:
        warn(
            f"column {names[largest]!r} is {sizes[largest] / usual:,.0f} times as large as the others, which become "
            "nearly constant where a series is normalised; remove it if it is not part of the series"
        )


def warn_of_labels(counts: dict[str, int], source: str) -> None:
    """Warn if almost every item has its own label."""
    total = sum(counts.values())
    if total >= _ENOUGH and len(counts) > _ALMOST_ALL * total:
        warn(f"{source}: {len(counts):,} different labels in {total:,} items; are they ids rather than classes?")


def warn_of_constant_series(constant: int, total: int, source: str) -> None:
    """Warn of constant series."""
    if constant:
        warn(
            f"{source}: {constant:,} of {total:,} series are constant in every channel: nothing can be learnt from them"
        )


def is_constant(series: NDArray[np.float32]) -> bool:
    """Return whether a series ``[C, L]`` of more than one step is constant in each channel."""
    if series.shape[1] < 2:
        return False
    first = series[:, :1]
    return bool(((series == first) | np.isnan(series)).all())


def warn_of_words(texts: Sequence[str], source: str) -> None:
    """Warn if nearly every word occurs only once: the texts are names or ids, or have no spaces between words."""
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


def _sizes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the root mean square per column, ignoring missing values."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    sizes: NDArray[np.float64] = np.sqrt((np.where(known, values, 0.0) ** 2).sum(axis=0) / count)
    return sizes


def _is_whole(column: NDArray[np.float64]) -> bool:
    known = column[np.isfinite(column)]
    return bool(len(known)) and bool((known == np.floor(known)).all())
