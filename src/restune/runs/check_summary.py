"""The findings of the check.csv that a run was started with, in short form, for its result and its report."""

from __future__ import annotations

import csv
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from restune.runs.record import read_run_record


def check_summary(folder: Path) -> dict[str, Any]:
    """Return ``{"check": [{"finding", "severity", "n"}, ...]}`` in the table's order; empty without ``--exclude``."""
    record = read_run_record(folder)
    path = None if record is None else record.options.exclude
    if path is None:
        return {}
    counts: Counter[tuple[str, str]] = Counter()
    with suppress(OSError, ValueError, KeyError), Path(path).open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            counts[row["finding"], row["severity"]] += 1
    return {"check": [{"finding": name, "severity": severity, "n": n} for (name, severity), n in counts.items()]}
