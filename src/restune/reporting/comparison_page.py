"""comparison.html: runs side by side, the conclusion first, then scores, differences, curves and settings."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from typing import Any

from restune.core.language import Text, current_language
from restune.reporting.comparison import Gap, Group, RunComparison
from restune.reporting.pages import render
from restune.reporting.phrases import both, phrases
from restune.reporting.plots import Lines, Series, panel_svg
from restune.reporting.summary import Say

_CURVES = (
    ("train_loss", "curve_train_loss", 1),
    ("val_loss", "curve_val_loss", 1),
    ("val_accuracy", "val_accuracy", 100),
)


def comparison_page(compared: RunComparison) -> str:
    """Return the page in the current language."""
    language = current_language()
    say = phrases(language)
    groups = compared.groups
    runs = [run for group in groups for run in group.runs]
    is_one = len(groups) == 1
    title = say("seeds_title", name=groups[0].name, n=len(runs)) if is_one else say("comparison_title", n=len(runs))
    return render(
        "comparison.html",
        language=language,
        title=title,
        conclusion=conclusion(compared, say),
        scores=_score_table(compared, say),
        gaps=[_gap_row(gap, say) for gap in compared.gaps],
        gap_headers=[
            say(key) for key in ("col_run", "col_against", "col_gap", "interval_heading", "col_how", "col_only")
        ],
        curves=[panel_svg(panel, language) for panel in curve_panels(groups)],
        has_seeds=any(not group.is_single for group in groups),
        settings=[[key, *map(_setting, values)] for key, values in compared.settings.items()],
        setting_headers=[say("col_setting"), *(group.name for group in groups)],
        runs=_run_table(groups, compared.split, say),
        command=shlex.join(["restune", "report", *(str(run.folder) for run in runs)]),
    )


def conclusion(compared: RunComparison, say: Say) -> list[str]:
    """Return how each group scores, and how each differs from the first, in sentences."""
    split = compared.split
    found = [_mean(group, split, say) for group in compared.groups] + [_gap(gap, say) for gap in compared.gaps]
    return [*found, say("val_compared")] if split == "val" else found


def _mean(group: Group, split: str, say: Say) -> str:
    values, name = group.values(split, "accuracy"), say(f"split_name_{split}")
    mean = f"{100 * statistics.fmean(values):.2f}"
    if group.is_single:
        score = group.first.scores[split]
        low, high = (f"{100 * end:.2f}" for end in score.interval)
        return say("single_mean", name=group.name, split=name, mean=mean, low=low, high=high, n=f"{score.n:,}")
    return say(
        "seeds_mean", name=group.name, split=name, mean=mean, n=len(values), std=_points(statistics.stdev(values)),
        low=f"{100 * min(values):.2f}", high=f"{100 * max(values):.2f}",
    )  # fmt: skip


def _gap(gap: Gap, say: Say) -> str:
    names = {"this": gap.this, "other": gap.other, "gap": _points(abs(gap.difference))}
    if gap.interval is None:
        return say("gap_one_seed", **names)
    verdict = "unclear" if not gap.is_clear else "better" if gap.difference > 0 else "worse"
    low, high = (_points(end, sign=True) for end in gap.interval)
    more = {"n": f"{gap.n:,}", "p": _p(gap.p)} if gap.how == "paired" and gap.p is not None else {}
    return say(f"gap_{gap.how}_{verdict}", **names, low=low, high=high, **more)


def _points(share: float, *, sign: bool = False) -> str:
    """Format a difference of shares in percentage points."""
    return f"{100 * share:+.2f}" if sign else f"{100 * share:.2f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _score_table(compared: RunComparison, say: Say) -> dict[str, Any]:
    split, rows = compared.split, []
    for group in compared.groups:
        values, scores = group.values(split, "accuracy"), group.scores(split)
        low, high = scores[0].interval
        spread = (
            say("range", low=f"{100 * low:.2f}", high=f"{100 * high:.2f}")
            if group.is_single
            else say("plus_minus", std=_points(statistics.stdev(values)))
        )
        counts = sorted({score.n for score in scores})
        rows.append([
            group.name, group.first.result["model"], group.first.data_name, str(len(group.runs)),
            f"{100 * statistics.fmean(values):.2f}%", spread,
            f"{100 * statistics.fmean(group.values(split, 'balanced_accuracy')):.2f}%",
            f"{statistics.fmean(group.values(split, 'macro_f1')):.3f}", " / ".join(f"{n:,}" for n in counts),
        ])  # fmt: skip
    name = say(f"split_name_{split}")
    keys = ("col_run", "col_model", "col_data", "col_seeds")
    headers = [*map(say, keys), say("col_accuracy", split=name), say("col_spread")]
    return {"headers": [*headers, say("measure_balanced_accuracy"), say("measure_macro_f1"), "n"], "rows": rows}


def _gap_row(gap: Gap, say: Say) -> list[str]:
    interval = "–" if gap.interval is None else " – ".join(_points(end, sign=True) for end in gap.interval)
    how = say("how_paired", n=f"{gap.n:,}") if gap.how == "paired" else say(f"how_{gap.how}")
    alone = "–" if gap.only_this is None else f"{gap.only_this:,} / {gap.only_other:,}"
    return [gap.this, gap.other, _points(gap.difference, sign=True), interval, how, alone]


def curve_panels(groups: Sequence[Group]) -> list[Lines]:
    """Return one panel per quantity that all runs recorded, a line per group; of several seeds mean and deviation."""
    panels = []
    for name, key, factor in _CURVES:
        series = [one for group in groups if (one := _line(group, name, factor)) is not None]
        if series:
            title = both(key)
            panels.append(Lines(title, both("epoch"), Text("%", "%") if factor == 100 else both("loss"), series))
    return panels


def _line(group: Group, name: str, factor: int) -> Series | None:
    """Return the mean over the runs at the epochs that all of them have; None for a quantity without two points."""
    by_run = [{one["epoch"]: factor * one[name] for one in run.records if name in one} for run in group.runs]
    epochs = sorted(set.intersection(*(set(values) for values in by_run)))
    if len(epochs) < 2:
        return None
    label = Text(group.name, group.name)
    rows = [[values[epoch] for values in by_run] for epoch in epochs]
    means = [statistics.fmean(row) for row in rows]
    if group.is_single:
        return Series(label, epochs, means)
    spread = [statistics.stdev(row) for row in rows]
    low, high = (
        [mean + sign * std for mean, std in zip(means, spread, strict=True)] for sign in (-1, 1)
    )  # fmt: skip
    return Series(label, epochs, means, low, high)


def _setting(value: Any) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _run_table(groups: Sequence[Group], split: str, say: Say) -> dict[str, Any]:
    rows = [
        [str(run.folder), run.seed if run.seed is not None else "–", f"{100 * run.scores[split].accuracy:.2f}%",
         f"{run.result['seconds']:,.0f} s"]
        for group in groups for run in group.runs
    ]  # fmt: skip
    accuracy = say("col_accuracy", split=say(f"split_name_{split}"))
    return {"headers": [say("col_run"), say("col_seed"), accuracy, say("col_time")], "rows": rows}
