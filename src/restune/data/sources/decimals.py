"""Parse numbers in text fields, also with a decimal comma, as in much of Europe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_COMMA = re.compile(r"\s*[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+(?:[eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(?:,\d{3})+\s*")
"""A comma that may be a decimal comma or a thousands separator."""
_POINT = re.compile(r"\s*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?\s*")
_GROUPED = re.compile(r"\s*[+-]?\d{1,3}(?:\.\d{3})+\s*")
_INNER_COMMA = re.compile(r"(?<=\d),(?=\d)")


def is_number(field: str) -> bool:
    """Return whether a field is a number in Python's notation."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def is_fraction(field: str) -> bool:
    """Return whether a field is a number but not an integer."""
    return is_number(field) and float(field) % 1 != 0


def with_point(field: str) -> str:
    """Convert ``1,5`` to ``1.5`` and ``1.234,5`` to ``1234.5``; leave anything else as it is."""
    return field.replace(".", "").replace(",", ".") if _COMMA.fullmatch(field) else field


def uses_commas(rows: Iterable[Sequence[str]], delimiter: str | None) -> bool:
    """Return whether the numbers in a table's first rows have decimal commas.

    In a comma-separated table, only a comma that cannot be a thousands separator counts. A number with a decimal
    point rules decimal commas out.
    """
    found = False
    for row in rows:
        for field in row:
            if _POINT.fullmatch(field) and not _GROUPED.fullmatch(field):
                return False
            if _COMMA.fullmatch(field) and (delimiter == ";" or not _THOUSANDS.fullmatch(field)):
                found = True
    return found


def splits_decimals(line: str) -> str | None:
    """Return the tab or semicolon that separates fields if every comma of a line is inside a number."""
    mark = next((mark for mark in "\t;" if mark in line), None)
    return mark if mark and "," in line and "," not in _INNER_COMMA.sub("", line) else None
