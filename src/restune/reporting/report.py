"""Write report.html, one offline page with its conclusion first, and the model card, from a run's saved files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restune.core.console import note
from restune.core.files import write_text
from restune.core.language import current_language, translated
from restune.evaluation.evaluation import Evaluation
from restune.reporting.confidence import confidence_panels
from restune.reporting.confusion import matrix, most_confused
from restune.reporting.curves import strength_panel, training_panels
from restune.reporting.gallery import Card, cards, read_gallery
from restune.reporting.model_card import model_card, write_card
from restune.reporting.pages import render
from restune.reporting.phrases import phrases
from restune.reporting.plots import panel_svg
from restune.reporting.run_files import RunFiles, read_run
from restune.reporting.summary import Say, conclusion, confidence_of, cost_rows
from restune.reporting.task_plots import task_plots
from restune.reporting.usage import usage_of

REPORT, CARD = "report.html", "README.md"
_MOST_CLASSES = 200
"""Classes up to which a page lists each one's scores."""
_SHARES = ("accuracy", "balanced_accuracy", "ece")


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write ``report.html`` and ``README.md`` into the folder of a finished run, from the files there.

    Args:
        folder: of the run.
        out: writes the page there, and no model card.

    Returns the page's path. Raises UserError if the run is not finished or a file of it is damaged.
    """
    run = read_run(folder)
    path = folder / REPORT if out is None else out
    write_text(path, report_page(run))
    if out is None and not write_card(folder / CARD, model_card(run)):
        note("README.md was edited by hand and is left as it is; remove it to have it written again")
    return path


def report_page(run: RunFiles) -> str:
    """Return the page of a run in the current language."""
    language = current_language()
    say = phrases(language)
    gallery = _gallery(run, say)
    confidence = _confidence(run, language)
    curves = _curves(run, language)
    result_check = run.result.get("check", ())
    counting = {split: run.scores[split] for split in ("test", "val") if split in run.scores}
    shown = {
        "scores": True, "training": bool(curves), "gallery": bool(gallery), "confidence": any(confidence.values()),
        "data": True, "cost": True, "usage": True, "repeat": True,
    }  # fmt: skip
    return render(
        "run.html",
        language=language,
        translated=translated,
        result=run.result,
        recipe=run.recipe,
        scores=counting,
        task=run.task,
        evaluations=run.evaluations,
        task_plots=task_plots(run.evaluations, language),
        sections=[section for section, is_shown in shown.items() if is_shown],
        conclusion=conclusion(run, say),
        curves=curves,
        split_sections=[_split_section(split, score, say) for split, score in counting.items()],
        gallery=gallery,
        confidence=confidence,
        split_counts=[[say(f"split_name_{split}"), f"{count:,}"] for split, count in run.result["items"].items()],
        checked=[[translated(one["finding"]), translated(one["severity"]), f"{one['n']:,}"] for one in result_check],
        left_out=run.left_out,
        costs=cost_rows(run, say),
        usage=usage_of(run),
    )


def _curves(run: RunFiles, language: str) -> list[str]:
    """Draw the curves of a run, or the choice of strength of a fitted head; none for a run without epochs."""
    if "head" in run.result:
        return [panel_svg(strength_panel(run.result["head"]), language)]
    panels = training_panels(run.records, run.result["kind"]) if run.records else []
    return [panel_svg(panel, language) for panel in panels]


def _split_section(split: str, score: Evaluation, say: Say) -> dict[str, Any]:
    pairs = [
        [pair.true, pair.predicted, say("n_of", n=f"{pair.n:,}", of=f"{pair.of:,}"), f"{100 * pair.share:.1f}%"]
        for pair in most_confused(score)
    ]
    is_listed = len(score.classes) <= _MOST_CLASSES
    return {
        "split": split,
        "measures": _measures(score.to_dict(), say),
        "matrix": matrix(score),
        "pairs": pairs,
        "per_class": [_class_row(name, row) for name, row in score.per_class.items()] if is_listed else [],
    }


def _class_row(name: str, row: Any) -> list[str]:
    low, high = row.interval
    interval = f"{100 * low:.1f}% – {100 * high:.1f}%" if row.n else "–"
    return [name, f"{row.n:,}", _share(row.precision), _share(row.recall), interval, _share(row.f1)]


def _measures(scores: Mapping[str, Any], say: Say) -> list[list[str]]:
    """Return a row per measure that has an interval: its name, value and interval."""
    rows = []
    intervals: Mapping[str, Any] = scores.get("intervals") or {}
    for name, interval in intervals.items():
        top = name.removeprefix("top")
        value = scores["topk"][top] if top.isdigit() else scores.get(name)
        if value is None:
            continue
        as_share = name in _SHARES or top.isdigit()
        label = say("measure_top", k=top) if top.isdigit() else say(f"measure_{name}")
        low_high = "–" if interval is None else " – ".join(_value(end, as_share) for end in interval)
        rows.append([label, _value(value, as_share), low_high])
    return rows


def _value(value: float, as_share: bool) -> str:
    return f"{100 * value:.2f}%" if as_share else f"{value:.3f}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def _gallery(run: RunFiles, say: Say) -> dict[str, Any] | None:
    """Return the gallery of the split that counts; None without items that were predicted."""
    split = run.held_out
    if split is None:
        return None
    score = run.scores[split]
    of_split, saved = read_gallery(run.folder)
    shown = cards(score, saved if of_split == split else {})
    mistakes, wrong = sum(card.why == "mistake" for card in shown), score.n - score.correct
    about = "gallery_none" if not wrong else "gallery_all" if mistakes == wrong else "gallery_about"
    return {
        "about": say(
            about, mistakes=mistakes, wrong=f"{wrong:,}", uncertain=len(shown) - mistakes,
            split=say(f"split_name_{split}"),
        ),
        "cards": shown,
        "classes": sorted({name for card in shown for name in (card.true, card.predicted)}),
        "has_images": any(card.saved.image for card in shown),
        "has_small": any(card.saved.is_small for card in shown),
        "has_overlay": any(card.saved.overlay for card in shown),
        "has_attribution": any(_attributed(card) for card in shown),
    }  # fmt: skip


def _attributed(card: Card) -> bool:
    return bool(card.saved.overlay or card.saved.heat or card.saved.weight)


def _confidence(run: RunFiles, language: str) -> dict[str, list[str]]:
    if run.held_out is None:
        return {"panels": [], "sentences": []}
    scores = run.scores[run.held_out].to_dict()
    return {
        "panels": [panel_svg(panel, language) for panel in confidence_panels(scores)],
        "sentences": [sentence.of(language) for sentence in confidence_of(run)],
    }
