"""Format a list of runs, and the scores of several seeds, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from restune.core.language import translated
from restune.reporting.layout import plain_table
from restune.reporting.score_words import main_interval, metric_name, metric_of, metric_value


def runs_table(runs: Iterable[Mapping[str, Any]]) -> Table:
    """Return one row per run.

    Args:
        runs: objects of ``restune runs --json``.
    """
    table = plain_table("run", "verb", "data", "model", ">validation", ">test", "started", "state")
    for run in runs:
        row = (Text(run["folder"]), run["verb"] or "?", Text(run["data"] or "?"), Text(run["model"] or "?"))
        table.add_row(*row, _score(run["val"]), _score(run["test"]), _local(run["started"]), translated(_state(run)))
    return table


def seeds_lines(result: Mapping[str, Any]) -> list[str]:
    """Format mean, standard deviation and values of each split's accuracy, one line per split.

    Args:
        result: of several seeds, see `restune.runs.seeds.SeedRuns`.
    """
    lines = []
    for split, name in (("val", "validation"), ("test", "test")):
        if result[split] is not None:
            metric = next(iter(result[split]))
            spread = result[split][metric]
            values = ", ".join(metric_value(metric, value) for value in spread["values"])
            mean, std = (metric_value(metric, spread[key]) for key in ("mean", "std"))
            lines.append(
                f"{name} {metric_name(metric)} {mean}, standard deviation {std} "
                f"({len(spread['values'])} seeds: {values})"
            )
    return lines


def _score(score: Mapping[str, Any] | None) -> str:
    """Format ``81.0% (78.1-83.6, n 100)``."""
    if score is None:
        return "-"
    metric = metric_of(score)
    value, (low, high) = metric_value(metric, score[metric], 1), main_interval(score, 1)
    name = "" if metric == "accuracy" else f"{metric_name(metric)} "
    return f"{name}{value} ({low.rstrip('%')}-{high.rstrip('%')}, n {score['n']:,})"


def _state(run: Mapping[str, Any]) -> str:
    if run["state"] != "unfinished" or run["epoch"] is None:
        return str(run["state"])
    of = "" if run["epochs"] is None else f" of {run['epochs']}"
    return f"unfinished, epoch {run['epoch']}{of}"


def _local(moment: str) -> str:
    """Format a time for people, in this machine's time zone."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
