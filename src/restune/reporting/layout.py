"""Print tables that fit the terminal and never break a name: narrow ones as blocks of one row each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

from restune.core.language import translated

_REDIRECTED_WIDTH = 200
"""Columns where standard output is not a terminal and COLUMNS is not set."""
_GAP = 3
"""Columns between two cells."""


def show(*parts: RenderableType) -> None:
    """Print to standard output, as wide as the terminal or COLUMNS; where neither is known, 200 columns.

    Names, numbers and paths are never wrapped in the middle. A table that would need it is printed as blocks: the first
    cell of a row, then its other cells with their headers.
    """
    console = Console(soft_wrap=True)
    width = console.width if console.is_terminal else _columns() or _REDIRECTED_WIDTH
    console = Console(width=width, soft_wrap=True)
    for part in parts:
        if not isinstance(part, Table):
            console.print(part)
        elif _fit(part, width):
            console.print(part, soft_wrap=False, crop=False)
        else:
            for line in stacked(part, width):
                console.print(line)


def plain_table(*headers: str, names: Iterable[str] = ()) -> Table:
    """Build a plain table; ``>`` before a header right-aligns its column.

    Args:
        names: headers of further columns of numbers, which stay as they are: classes.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [(translated(header.removeprefix(">")), header.startswith(">")) for header in headers]
    for header, right in [*columns, *((name, True) for name in names)]:
        table.add_column(Text(header), justify="right" if right else "left", overflow="fold")
    return table


def prose(text: str, style: str = "") -> Text:
    """Return a cell that may wrap at spaces; all others stay on one line."""
    return Text(text, style, no_wrap=False)


def stacked(table: Table, width: int) -> Iterator[Text]:
    """Yield the lines of a table as blocks, one row each: the first cell, then pairs of header and cell, indented.

    Lines are broken between pairs only, so a long name may be wider than `width`.
    """
    headers = [_text(column.header).plain for column in table.columns]
    rows = zip(*(list(column.cells) for column in table.columns), strict=True)
    for row in rows:
        first, *others = map(_text, row)
        yield first
        line = Text("  ")
        for header, cell in zip(headers[1:], others, strict=True):
            if not cell.plain:
                continue
            pair = Text(f"{header} ").append_text(cell)
            if line.plain.strip() and line.cell_len + len("   ") + pair.cell_len > width:
                yield line
                line = Text("  ")
            line = Text.assemble(line, "   " if line.plain.strip() else "", pair)
        if line.plain.strip():
            yield line


def _fit(table: Table, width: int) -> bool:
    """Give every column the width it needs, prose what is left; return whether that is within `width`."""
    needed = [_narrowest(column) for column in table.columns]
    free = width - sum(needed) - _GAP * len(needed)
    for column, least in zip(table.columns, needed, strict=True):
        more = min(max(0, free), _widest(column) - least)
        column.width, free = least + more, free - more
    return free >= 0


def _narrowest(column: Column) -> int:
    """The widest of a column's cells, counting of prose only its longest word."""
    cells = [_text(cell) for cell in (column.header, *column.cells)]
    return max(
        max(map(len, cell.plain.split()), default=0) if cell.no_wrap is False else cell.cell_len for cell in cells
    )


def _widest(column: Column) -> int:
    return max(_text(cell).cell_len for cell in (column.header, *column.cells))


def _text(cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def _columns() -> int | None:
    """COLUMNS, which shells and CI systems set; None if it is not a usable number."""
    named = os.environ.get("COLUMNS", "")
    return int(named) if named.isdecimal() and 20 <= int(named) <= 10_000 else None
