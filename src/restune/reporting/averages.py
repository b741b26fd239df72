"""Show an average of runs on the terminal: each run's score, and how the average compares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.table import Table

from restune.core.language import translated
from restune.reporting.layout import plain_table
from restune.reporting.score_words import main_score


def average_table(runs: Iterable[Mapping[str, Any]]) -> Table:
    """Return each run's validation score, and whether its weights are in the average."""
    table = plain_table("run", "validation", "in the average")
    for one in runs:
        table.add_row(one["run"], main_score(one["val"]), translated("yes" if one["kept"] else "no"))
    return table


def average_lines(made: Mapping[str, Any]) -> Iterator[str]:
    """Yield the average's scores and its difference from the best run.

    Args:
        made: what ``restune average --json`` prints.
    """
    yield f"average: validation {main_score(made['val'])} (n = {made['val']['n']})"
    difference = made["difference"]
    if difference is not None:
        low, high = (100 * value for value in difference["interval"])
        yield (
            f"against the best run: {100 * difference['difference']:+.2f} points of accuracy (95% interval {low:+.2f} "
            f"to {high:+.2f})"
        )
    if made["test"] is not None:
        yield f"average: test {main_score(made['test'])} (n = {made['test']['n']})"
