"""Print tables to a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


def show(*parts: RenderableType) -> None:
    """Print to standard output; where it is not a terminal, tables may be up to 200 columns wide."""
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console = Console(width=200, soft_wrap=True)
    for part in parts:
        console.print(part)


def plain_table(*headers: str) -> Table:
    """Build a plain table; ``>`` before a header right-aligns its column."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        right = header.startswith(">")
        table.add_column(
            Text(header[1:] if right else header), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    return table
