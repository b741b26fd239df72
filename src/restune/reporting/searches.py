"""Show a search on the terminal: the best settings, what they gain over the recipe's own, and the test score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from restune.core.language import translated
from restune.reporting.score_words import main_score


def search_lines(study: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines.

    Args:
        study: the content of study.json.
    """
    best, default, monitor = study["best"], study["default"], study["monitor"]
    n, number, score = len(study["trials"]), best["number"], f"{best['score']:.4f}"
    yield translated(f"the best of {n} trials is number {number}: {monitor} {score}")
    for key, value in best["settings"].items():
        yield f"  {key} {value:.4g}" if isinstance(value, float) else f"  {key} {value}"
    if default is not None:
        own, gap = f"{default['score']:.4f}", f"{best['score'] - default['score']:+.4f}"
        yield translated(f"the recipe's own settings: {own} (difference {gap}, on the items that chose the best)")
    if study["importances"]:
        shares = ", ".join(f"{key} {value:.0%}" for key, value in study["importances"].items())
        yield translated(f"importance: {shares}")
    run = study["run"]
    if run is not None and run["test"] is not None:
        score, n = main_score(run["test"]), run["test"]["n"]
        yield translated(f"test: {score} (n = {n}), touched once")
