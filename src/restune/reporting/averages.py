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
    score, n = main_score(made["val"]), made["val"]["n"]
    yield translated(f"the average: validation {score} (n = {n})")
    if sum(one["kept"] for one in made["runs"]) == 1:
        yield translated("no average was as good as the best run: this model has its weights")
    if made["difference"] is not None:
        points, low, high = _points(made["difference"])
        yield translated(
            f"against the best run: {points} points of accuracy (95% interval {low} to {high}), on the validation "
            "items that chose it"
        )
    if made["test"] is not None:
        score, n = main_score(made["test"]), made["test"]["n"]
        yield translated(f"the average: test {score} (n = {n})")
    if made["test_difference"] is not None:
        points, low, high = _points(made["test_difference"])
        yield translated(
            f"against the best run: {points} points of accuracy (95% interval {low} to {high}), on the test items"
        )


def _points(difference: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a difference and the ends of its interval, in points."""
    low, high = difference["interval"]
    return f"{100 * difference['difference']:+.2f}", f"{100 * low:+.2f}", f"{100 * high:+.2f}"
