"""How sure one may be: reliability, risk and coverage, prediction sets, unknowns, from the scores of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from restune.core.language import Text
from restune.reporting.phrases import both
from restune.reporting.plots import Lines, Series

Scores = Mapping[str, Any]
_PERCENT = Text("%", "%")


def confidence_panels(scores: Scores) -> list[Lines]:
    """Return the reliability diagram and the risk-coverage curve of an evaluation's scores, where it has them.

    Args:
        scores: the object of `restune evaluate --json`.
    """
    reliability = (scores.get("calibration") or {}).get("reliability")
    curve = (scores.get("abstention") or {}).get("curve")
    return [*([_reliability(reliability)] if reliability else []), *([_risk(curve)] if curve else [])]


def confidence_sentences(scores: Scores) -> list[Text]:
    """Return what these measures mean, a sentence each; none for a measure that is absent."""
    found = [_calibration(scores), _abstention(scores), _sets(scores)]
    return [sentence for sentence in found if sentence is not None]


def _reliability(diagram: Mapping[str, Sequence[Mapping[str, Any]]]) -> Lines:
    before, after = diagram.get("before", ()), diagram.get("after", ())
    series = [Series(both("perfect"), [0, 100], [0, 100], is_dashed=True)]
    if before:
        series.append(_bins(both("before_temperature" if after else "reliability_as_is"), before, shaded=not after))
    if after:
        series.append(_bins(both("after_temperature"), after, shaded=True))
    return Lines(both("reliability"), both("confidence_axis"), both("accuracy_axis"), series)


def _bins(label: Text, bins: Sequence[Mapping[str, Any]], *, shaded: bool) -> Series:
    low, high = ([100 * one["interval"][end] for one in bins] if shaded else [] for end in (0, 1))
    x, y = ([100 * one[name] for one in bins] for name in ("confidence", "accuracy"))
    return Series(label, x, y, low, high)


def _risk(curve: Sequence[Sequence[float]]) -> Lines:
    coverage, risk = [100 * point[0] for point in curve], [100 * point[1] for point in curve]
    return Lines(
        both("risk_coverage"), both("coverage_axis"), both("risk_axis"), [Series(both("risk_line"), coverage, risk)]
    )


def _calibration(scores: Scores) -> Text | None:
    found = scores.get("calibration") or {}
    before, after = found.get("before"), found.get("after")
    if not before:
        return None
    if not after:
        return both("calibration_as_is", ece=_percent(before["ece"]))
    return both(
        "calibration_fitted", temperature=f"{found['temperature']:.2f}", before=_percent(before["ece"]),
        after=_percent(after["ece"]), n=f"{found['n']:,}",
    )  # fmt: skip


def _abstention(scores: Scores) -> Text | None:
    found = scores.get("abstention") or {}
    here, wanted = found.get("here"), found.get("target_precision")
    if wanted is None or "threshold" not in found:
        return None
    if not here or here.get("precision") is None:
        return both("abstention_none", wanted=_percent(wanted))
    low, high = here["precision_interval"]
    return both(
        "abstention_here", wanted=_percent(wanted), threshold=f"{found['threshold']:.3f}",
        answered=_percent(here["answered"]), precision=_percent(here["precision"]),
        low=_percent(low), high=_percent(high),
    )  # fmt: skip


def _sets(scores: Scores) -> Text | None:
    found = scores.get("conformal") or {}
    sets = found.get("marginal")
    if not sets:
        return None
    low, high = sets["coverage_interval"]
    return both(
        "conformal_here", wanted=_percent(found["coverage_wanted"]), coverage=_percent(sets["coverage"]),
        low=_percent(low), high=_percent(high), size=f"{sets['mean_size']:.2f}", single=_percent(sets["single"]),
    )  # fmt: skip


def unknowns_sentence(result: Mapping[str, Any]) -> Text | None:
    """Return how often items like the training data are called unlike it; None where the model does not tell.

    Args:
        result: the object of result.json.
    """
    found = result.get("novelty") or {}
    split = next((name for name in ("test", "val") if found.get(name)), None)
    if split is None:
        return None
    measured = found[split]
    low, high = measured["interval"]
    return both(
        "unknowns_test" if split == "test" else "unknowns_val", promised=_percent(found["promised"]),
        rate=_percent(measured["false_alarm_rate"]), low=_percent(low), high=_percent(high), n=f"{measured['n']:,}",
    )  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
