"""runs: list runs with their data, model, scores and state."""

from __future__ import annotations

from pathlib import Path

from restune.core.files import user_path
from restune.runs.listing import RunInfo, runs_below


def list_runs(folder: str | Path = "runs") -> list[RunInfo]:
    """List the runs in a folder and its subfolders, in the order of their start. Reads saved files only.

    Raises UserError if there is no such folder.

    >>> [(run.folder.name, run.state) for run in restune.list_runs(run_folder)]
    [('first', 'finished')]
    """
    return runs_below(user_path(folder))
