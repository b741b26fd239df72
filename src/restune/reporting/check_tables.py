"""The findings of a check as tables for a terminal."""

from __future__ import annotations

from collections import defaultdict

from rich.console import RenderableType
from rich.text import Text

from restune.core.errors import shorten
from restune.core.language import translated
from restune.data.audit.findings import CheckReport, Finding
from restune.reporting.layout import plain_table, prose

_EXAMPLES = 3


def check_tables(report: CheckReport) -> list[RenderableType]:
    """Return one row per kind of finding and severity, with its number and the first examples."""
    if not report.findings:
        return [Text(translated("nothing was found"))]
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for one in report.findings:
        groups[one.finding, one.severity].append(one)
    table = plain_table("finding", "severity", ">count", "examples")
    for (name, severity), members in groups.items():
        table.add_row(name, translated(severity), f"{len(members):,}", prose(_examples(members)))
    return [table]


def _examples(members: list[Finding]) -> str:
    """Return the first items, or what is found of the whole set."""
    return shorten((one.item or one.details for one in members[:_EXAMPLES]), _EXAMPLES)
