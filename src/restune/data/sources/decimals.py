"""Numbers in fields of text: what is one, and those with a decimal comma, as much of Europe writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_COMMA = re.compile(r"\s*[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+(?:[eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(?:,\d{3})+\s*")
"""May be a decimal comma, and may be the mark between thousands."""
_POINT = re.compile(r"\s*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?\s*")
_GROUPED = re.compile(r"\s*[+-]?\d{1,3}(?:\.\d{3})+\s*")
_INNER_COMMA = re.compile(r"(?<=\d),(?=\d)")


def is_number(field: str) -> bool:
    """Whether a field is a number as Python writes it."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def is_fraction(field: str) -> bool:
    """Whether a field is a number, and not a whole one."""
    return is_number(field) and float(field) % 1 != 0


def with_point(field: str) -> str:
    """``1,5`` as ``1.5`` and ``1.234,5`` as ``1234.5``; anything else as it is."""
    return field.replace(".", "").replace(",", ".") if _COMMA.fullmatch(field) else field


def uses_commas(rows: Iterable[Sequence[str]], delimiter: str | None) -> bool:
    """Whether numbers have decimal commas in a table's first rows.

    Fields separated by commas have them only where one cannot be a mark between thousands. A number with a decimal
    point says that they have not.
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
    """The tab or semicolon that separates fields where every comma of a line stands inside a number."""
    mark = next((mark for mark in "\t;" if mark in line), None)
    return mark if mark and "," in line and "," not in _INNER_COMMA.sub("", line) else None
