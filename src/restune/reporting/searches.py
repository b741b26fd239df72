"""Show a search on the terminal: the best settings, what they gain over the recipe's own, and the test score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from restune.core.language import current_language, translated
from restune.reporting.phrases import phrases
from restune.reporting.score_words import main_score
from restune.reporting.summary import Say


def gain_sentence(study: Mapping[str, Any], say: Say) -> str:
    """Say whether the best trial beats the recipe's own settings on validation items that chose nothing.

    Args:
        study: the content of study.json, with a `gain`.
        say: phrases of a language.
    """
    gain = study["gain"]
    if study["best"]["number"] == study["default"]["number"]:
        return say("search_is_default")
    low, high = gain["interval"]
    key = "search_better" if low > 0 else "search_worse" if high < 0 else "search_unclear"
    return say(
        key, gap=f"{100 * gain['difference']:+.1f}", low=f"{100 * low:+.1f}", high=f"{100 * high:+.1f}", n=gain["n"]
    )  # fmt: skip


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
    if study["gain"] is not None:
        yield gain_sentence(study, phrases(current_language()))
    elif default is not None:
        own, gap = f"{default['score']:.4f}", f"{best['score'] - default['score']:+.4f}"
        yield translated(f"the recipe's own settings: {own} (difference {gap}, on the items that chose the best)")
    if study["importances"]:
        shares = ", ".join(f"{key} {value:.0%}" for key, value in study["importances"].items())
        yield translated(f"importance: {shares}")
    run = study["run"]
    if run is not None and run["test"] is not None:
        score, n = main_score(run["test"]), run["test"]["n"]
        yield translated(f"test: {score} (n = {n}), touched once")
