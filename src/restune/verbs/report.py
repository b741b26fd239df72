"""report: draw the report of a run again, or compare runs on one page, from saved files only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.core.files import user_path, write_text
from restune.core.language import current_language, resolve_language, speaking
from restune.reporting.comparison import RunComparison, compare_runs, run_folders
from restune.reporting.comparison_page import comparison_page
from restune.reporting.report import CARD, write_report
from restune.reporting.run_files import read_run

COMPARISON = "comparison.html"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A page that was written.

    Args:
        path: of the page.
        card: of the model card; None where the page was written elsewhere, and for several runs.
        runs: the folders of the runs.
        comparison: of several runs.
    """

    path: Path
    card: Path | None = None
    runs: tuple[Path, ...]
    comparison: RunComparison | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune report --json`` prints."""
        return {
            "report": str(self.path),
            "card": None if self.card is None else str(self.card),
            "runs": [str(run) for run in self.runs],
            **({} if self.comparison is None else {"comparison": self.comparison.to_dict()}),
        }


def report(runs: Any, *, out: str | Path | None = None, lang: str | None = None) -> Report:
    """Draw the report of a finished run again, or compare several on one page. Reads saved files only.

    Args:
        runs: the folder of a run or of several seeds, what `restune.train` returned, or several of these.
        out: the page to write; by default ``report.html`` in the run's folder, beside it the model card ``README.md``,
            and for several runs ``comparison.html`` in the working folder.
        lang: ``en`` or ``zh``; by default ``RESTUNE_LANG``, else English.

    Runs that differ in their seed only are shown by mean and standard deviation. Differences are paired where both
    models scored the same items. Raises UserError for a folder without a finished run.

    >>> page = restune.report(run_folder)
    >>> page.path.name, page.card.name
    ('report.html', 'README.md')
    """
    named = [runs] if isinstance(runs, str | Path) or hasattr(runs, "out") else list(runs)
    folders = [user_path(getattr(one, "out", one)) for one in named]
    if not folders:
        raise UserError("no run is named", where="runs=", fix="name the folder of a finished run")
    page = None if out is None else _page(out)
    with speaking(current_language() if lang is None else resolve_language(lang)):
        members = [(folder, member) for folder in folders for member in run_folders(folder)]
        if len(members) == 1:
            folder = members[0][1]
            path = write_report(folder, page)
            return Report(path=path, card=folder / CARD if page is None else None, runs=(folder,))
        names = _names(folders)
        compared = compare_runs([(names[folder], read_run(member)) for folder, member in members])
        default = folders[0] / "report.html" if len(folders) == 1 else Path(COMPARISON)
        path = page or default
        write_text(path, comparison_page(compared))
    return Report(path=path, runs=tuple(member for _, member in members), comparison=compared)


def _page(out: str | Path) -> Path:
    path = user_path(out)
    if path.suffix != ".html":
        raise UserError("a report is an .html page", where=str(path), fix=f"name it {path.stem}.html")
    return path


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """Return a short name for each folder: its own, or its path where two have the same."""
    short = [folder.resolve().name for folder in folders]
    return {
        folder: name if short.count(name) == 1 else str(folder) for folder, name in zip(folders, short, strict=True)
    }
