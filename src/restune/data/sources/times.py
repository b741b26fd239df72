"""Times of a table's rows: numbers or ISO 8601 dates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restune.core.errors import UserError

_GERMAN = ("%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y")


def parse_times(fields: Sequence[str], where: str, first_row: int) -> NDArray[Any]:
    """Convert times to sortable numbers: int64 for integers and dates (microseconds), else float64.

    Raises UserError with the row of an invalid time.
    """
    for kind, dtype in ((int, np.int64), (float, np.float64)):
        try:
            numbers = np.array([kind(field) for field in fields], dtype)
        except (ValueError, OverflowError):
            continue
        if np.isfinite(numbers).all():
            return numbers
    numbers_among = [_is_number(field) for field in fields]
    if 2 * sum(numbers_among) > len(fields):
        place = numbers_among.index(False)
        raise _no_time(fields[place], f"{where}, row {first_row + place}")
    known: dict[str, int] = {}
    for place, field in enumerate(fields):
        if field not in known:
            known[field] = _moment(field.strip(), f"{where}, row {first_row + place}")
    return np.array([known[field] for field in fields], np.int64)


def _moment(field: str, where: str) -> int:
    """Convert a date or time of day to microseconds; times without a zone are UTC."""
    try:
        moment = datetime.fromisoformat(field)
    except ValueError:
        moment = _other(field, where)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    apart = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (apart.days * 86_400 + apart.seconds) * 10**6 + apart.microseconds


def _other(field: str, where: str) -> datetime:
    try:
        return datetime.combine(datetime(1970, 1, 1), time.fromisoformat(field))
    except ValueError:
        pass
    for form in _GERMAN:
        try:
            return datetime.strptime(field, form)
        except ValueError:
            continue
    raise _no_time(field, where)


def _is_number(field: str) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False


def _no_time(field: str, where: str) -> UserError:
    return UserError(
        f"{field[:60]!r} is not a time" if field else "this row has no time",
        where=where,
        fix="write times as numbers or as ISO dates such as 2026-03-01T12:00:00.5, or name another column with "
        "--time-column",
    )
