"""Grade a learner's file in a process of its own, with limits: endless loops, floods and crashes end in a message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.core.files import user_path
from restune.lessons.exercises.catalogue import Exercise
from restune.lessons.exercises.grading import IMPORTS, FaultError, Finding

_START_SECONDS = 120
"""Limit for importing torch, before the learner's time begins."""
_MOST_PRINTED = 2**24
"""Bytes: more output than anybody reads comes from a loop that never ends, and would fill the disk."""


@dataclass(frozen=True)
class Grade:
    """The findings of an exercise's checks, in order; later checks may be missing after a failed one."""

    exercise: str
    checks: tuple[Finding, ...]
    total: int
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return len(self.checks) == self.total and all(finding.passed for finding in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        checks = [asdict(finding) for finding in self.checks]
        return {"exercise": self.exercise, "passed": self.passed, "checks": checks}


def grade_file(exercise: Exercise, path: str | Path, language: str, seconds: float | None = None) -> Grade:
    """Run the exercise's checks on a file.

    Raises UserError if there is no such file.
    """
    file = user_path(path).absolute()
    if not file.is_file():
        raise UserError(
            "there is no such file",
            where=str(path),
            fix=f"write the skeleton first: restune lesson exercise {exercise.name} --write {path}",
        )
    limit = exercise.seconds if seconds is None else seconds
    with tempfile.TemporaryDirectory() as folder:
        result, output = Path(folder) / "result.json", Path(folder) / "output.txt"
        command = [sys.executable, "-m", "restune.lessons.exercises.child"]
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [*command, exercise.name, str(file), language, str(result)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            )
            stopped = _wait(process, result, output, limit)
        printed = _end_of(output)
        record: dict[str, Any] = {"checks": [], "done": False}
        if result.exists():
            record = json.loads(result.read_text(encoding="utf-8"))
    findings = [Finding(**finding) for finding in record["checks"]]
    total = record.get("total", 1)
    if not record["done"]:
        lines = printed.strip().splitlines()
        fault = FaultError("ended", status=process.returncode, last=lines[-1] if lines else "-")
        if stopped == "time":
            fault = FaultError("time", seconds=f"{limit:g}")
        elif stopped == "flood":
            fault = FaultError("flood", size=f"{_MOST_PRINTED // 2**20} MiB")
        current = record.get("current") or ["imports", IMPORTS.of(language)]
        findings.append(Finding(current[0], current[1], False, fault.name, fault.explain(language)))
    return Grade(exercise.name, tuple(findings), total, printed)


def _end_of(output: Path) -> str:
    """Return the end of what was printed."""
    with output.open("rb") as stream:
        stream.seek(max(0, output.stat().st_size - 20_000))
        return stream.read().decode("utf-8", "replace")


def _wait(process: subprocess.Popen[bytes], started: Path, output: Path, seconds: float) -> str | None:
    """Wait for the process and end it with all that it started.

    The time counts from when the file `started` is there: importing torch is not the learner's time.

    Returns:
        None where it ended by itself; ``time`` or ``flood`` where it ran, or printed, for too long.
    """
    deadline, counts = time.monotonic() + _START_SECONDS, False
    try:
        while process.poll() is None:
            if not counts and started.exists():
                deadline, counts = time.monotonic() + seconds, True
            if time.monotonic() > deadline:
                return "time"
            if output.stat().st_size > _MOST_PRINTED:
                return "flood"
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        return None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
