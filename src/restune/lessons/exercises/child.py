"""Run an exercise's checks in this process: ``python -m restune.lessons.exercises.child NAME FILE LANGUAGE RESULT``.

The result is written anew before and after each check, so that it survives a crash or the end of the time.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from restune.core.files import written_whole
from restune.core.machine import memory_bytes
from restune.lessons.exercises.catalogue import find_exercise
from restune.lessons.exercises.grading import IMPORTS, grade


def main(name: str, file: str, language: str, result: str) -> None:
    """Grade and write the findings as JSON."""
    _limit_memory()
    checks = find_exercise(name).load_checks()
    titles = [("imports", IMPORTS.of(language)), *((check.name, check.title.of(language)) for check in checks)]
    record: dict[str, Any] = {"checks": [], "total": len(titles), "current": titles[0], "done": False}
    _write(record, result)
    for number, finding in enumerate(grade(checks, Path(file), language), start=1):
        record["checks"].append(asdict(finding))
        record["current"] = titles[number] if number < len(titles) else None
        _write(record, result)
    record["done"] = True
    _write(record, result)


def _limit_memory() -> None:
    """Let data that grow without end raise MemoryError before the machine has no memory left."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_SHARE * memory_bytes() // 100, resource.RLIM_INFINITY))


_SHARE = 60
"""Percent of the machine's memory, which is several times what any exercise needs."""


def _write(record: dict[str, Any], path: str) -> None:
    with written_whole(Path(path)) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
