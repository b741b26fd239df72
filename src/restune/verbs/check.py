"""check: find the faults of data before training on it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.core.files import cannot_write, user_path, write_bytes
from restune.data.audit.audit import Finder
from restune.data.audit.finders import FINDERS
from restune.data.audit.findings import CheckReport, in_order, write_findings
from restune.data.audit.held_out import with_held_out
from restune.data.audit.proposed_split import write_split
from restune.data.audit.scan import scan
from restune.data.dataset import DataOptions, Dataset
from restune.data.sources import open_dataset
from restune.inference.model import Model
from restune.reporting.check_page import check_page
from restune.runs.label_check import LabelCheck, check_labels

__all__ = ["CheckReport", "check"]


def check(
    data: Any,
    *,
    out: str | Path | None = None,
    val: Any = None,
    test: Any = None,
    strict: bool = False,
    workers: int | None = None,
    data_options: DataOptions | None = None,
    finders: Sequence[Finder] = FINDERS,
    model: str | Path | Model | None = None,
    labels: bool = True,
    device: str = "auto",
) -> CheckReport:
    """Find the faults of data before training on it, and write them to check.csv.

    Also writes split.csv, a split of the data without leaks that training accepts as DATA.

    Args:
        data, data_options: see `DataOptions`.
        val, test: other data that is used for validation and test, for leaks between them and `data`.
        out: folder of check.csv; by default a new ``runs/check-001``. Files of an earlier check are replaced.
        strict: raise UserError after writing if anything serious was found.
        workers: threads that read items; by default one per core.
        finders: functions from an `Audit` to findings.
        model: whose features judge labels and find outliers: a run, a bundle, or published weights. By default
            published weights in the cache, else features that need no training.
        labels: look for label errors and outliers.
        device: where the model computes.

    Raises UserError for data that cannot be opened.

    >>> restune.check(photos, out=folder / "checked").to_dict()["serious"]
    False
    """
    started = time.perf_counter()
    options = replace(data_options or DataOptions(), missing_labels=True)
    dataset = _opened(data, {"val": val, "test": test}, options)
    folder = _folder(out)
    audit = scan(dataset, workers, options.encoding)
    found = [one for finder in finders for one in finder(audit)]
    checked = check_labels(dataset, model=model, copies=found, device=device) if labels else LabelCheck()
    findings = in_order([*found, *checked.findings])
    write_findings(folder / "check.csv", findings)
    write_split(folder / "split.csv", audit)
    report = CheckReport(dataset.source, len(dataset), findings, folder, time.perf_counter() - started, checked.judge)
    page = check_page(report, dataset)
    write_bytes(folder / "check.html", page.encode("utf-8", "backslashreplace"))  # of names that are not UTF-8
    if strict and report.serious:
        listed = ", ".join(f"{name} ({count})" for name, count in report.counts.items())
        raise UserError(f"the data has serious faults: {listed}", where=dataset.source, fix=f"see {folder}/check.csv")
    return report


def _opened(data: Any, held_out: Mapping[str, Any], options: DataOptions) -> Dataset:
    """Open the data and what is held out beside it."""
    dataset = open_dataset(data, options)
    kind = replace(options, kind=dataset.kind)
    others = {split: open_dataset(other, kind) for split, other in held_out.items() if other is not None}
    return with_held_out(dataset, **others) if others else dataset


def _folder(out: str | Path | None) -> Path:
    """Return the folder to write to, created if it does not exist."""
    number = 1
    while out is None and (Path("runs") / f"check-{number:03d}").exists():
        number += 1
    folder = Path("runs") / f"check-{number:03d}" if out is None else user_path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder
