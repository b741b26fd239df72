"""search.html: the best settings and how they were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from restune.core.language import Text, current_language
from restune.reporting.pages import render
from restune.reporting.phrases import both, phrases
from restune.reporting.plots import Lines, Series, panel_svg, parallel_svg
from restune.reporting.searches import gain_sentence
from restune.reporting.summary import Say

_LOWER_IS_BETTER = ("val_loss", "train_loss", "val_mae")
_LISTED = 200


def search_page(study: Mapping[str, Any]) -> str:
    """Return the page in the current language.

    Args:
        study: the content of study.json.
    """
    language = current_language()
    say = phrases(language)
    scored = [one for one in study["trials"] if one["score"] is not None]
    settings = sorted({key for one in study["trials"] for key in one["settings"]})
    parts: dict[str, Any] = {
        "importances": None,
        "parallel": None,
        "history": panel_svg(_history(scored, study["monitor"]), language),
    }
    if study["importances"]:
        parts["importances"] = panel_svg(_importances(study["importances"]), language)
    if len(scored) > 1 and settings:
        label = say("parallel_label", n=len(scored), settings=", ".join(settings))
        axes = [(key, [one["settings"].get(key) for one in scored]) for key in settings]
        parts["parallel"] = parallel_svg(
            [*axes, (study["monitor"], [one["score"] for one in scored])], label,
            falling=study["monitor"] in _LOWER_IS_BETTER,
        )  # fmt: skip
    return render(
        "search.html",
        language=language,
        title=say("search_title", n=len(settings)),
        conclusion=_conclusion(study, say),
        headers=[say("col_trial"), *settings, study["monitor"], say("col_state"), say("col_seconds")],
        rows=[_row(one, settings, say) for one in _ranked(study)[:_LISTED]],
        **parts,
    )


def _ranked(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials, best first, those without a score last."""
    sign = -1 if study["monitor"] in _LOWER_IS_BETTER else 1
    return sorted(
        study["trials"], key=lambda one: (one["score"] is None, -sign * (one["score"] or 0.0), one["number"])
    )  # fmt: skip


def _conclusion(study: Mapping[str, Any], say: Say) -> list[str]:
    best, default, monitor = study["best"], study["default"], study["monitor"]
    ended = len(study["trials"])
    sentences = [say("search_best", number=best["number"], n=ended, monitor=monitor, score=f"{best['score']:.4f}")]
    if study.get("gain") is not None:
        sentences.append(gain_sentence(study, say))
    elif default is not None:
        gap = abs(best["score"] - default["score"])
        key = "search_gain" if gap > 0 else "search_no_gain"
        sentences.append(say(key, score=f"{default['score']:.4f}", gap=f"{gap:.4f}"))
    sentences.append(say("search_chosen"))
    test = (study["run"] or {}).get("test")
    if test is not None and "accuracy" in test:
        low, high = test["interval"]
        sentences.append(
            say("search_test", score=f"{test['accuracy']:.2%}", low=f"{low:.2%}", high=f"{high:.2%}", n=test["n"])
        )
    return sentences


def _history(scored: Sequence[Mapping[str, Any]], monitor: str) -> Lines:
    """Return each trial's score, and the best so far."""
    pick = min if monitor in _LOWER_IS_BETTER else max
    best: list[float] = []
    for one in scored:
        best.append(one["score"] if not best else pick(best[-1], one["score"]))
    numbers = [one["number"] for one in scored]
    return Lines(
        both("section_history"),
        both("axis_trial"),
        Text(monitor, monitor),
        [
            Series(both("label_trial"), numbers, [one["score"] for one in scored]),
            Series(both("label_best"), numbers, best, is_dashed=True),
        ],
    )


def _importances(importances: Mapping[str, float]) -> Lines:
    names = sorted(importances, key=lambda name: -importances[name])
    values = [importances[name] for name in names]
    return Lines(
        both("section_importances"), Text("", ""), both("label_importance"),
        [Series(both("label_importance"), list(range(len(names))), values)],
        is_bars=True, names=[Text(name, name) for name in names],
    )  # fmt: skip


def _row(trial: Mapping[str, Any], settings: Sequence[str], say: Say) -> list[str]:
    score = "-" if trial["score"] is None else f"{trial['score']:.4f}"
    values = [_value(trial["settings"].get(key)) for key in settings]
    return [str(trial["number"]), *values, score, say(f"state_{trial['state']}"), f"{trial['seconds']:.1f}"]


def _value(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
