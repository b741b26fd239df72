"""The result of a lesson: its evidence, where it is written, and the command that repeats it."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from restune.core.language import Text
from restune.lessons.lesson import Evidence, Lesson


@dataclass(frozen=True, kw_only=True)
class LessonResult:
    """What a lesson found.

    Args:
        out: its folder, with ``lesson.html`` and ``lesson.json``.
        lesson: its texts.
        evidence: conclusion, figures, plots and tables.
        command: repeats it.
        seconds: how long it took.
        machine, versions: what it ran on.
    """

    out: Path
    lesson: Lesson
    evidence: Evidence
    language: str
    command: str
    data: str
    seeds: tuple[int, ...]
    effort: float
    seconds: float
    machine: dict[str, object]
    versions: dict[str, str]

    @property
    def page(self) -> Path:
        """The page to read."""
        return self.out / "lesson.html"

    @property
    def claim(self) -> str:
        """The lesson's claim in the reader's language."""
        return self.lesson.claim.of(self.language)

    @property
    def conclusion(self) -> str:
        """What the measurements say, with their figures, in the reader's language."""
        return self.evidence.conclusion.of(self.language)

    @property
    def holds(self) -> bool:
        """Whether the measurements support the claim."""
        return self.evidence.holds

    @property
    def facts(self) -> dict[str, Any]:
        """The figures."""
        return self.evidence.facts

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``restune lesson NAME --json`` prints."""
        return {
            "lesson": self.lesson.name,
            "claim": self.claim,
            "conclusion": self.conclusion,
            "holds": self.holds,
            "facts": self.facts,
            "page": str(self.page),
            "out": str(self.out),
            "command": self.command,
            "seconds": round(self.seconds, 1),
        }

    def record(self) -> dict[str, Any]:
        """Return the content of lesson.json: everything on the page, in both languages."""
        lesson = self.lesson
        return {
            "lesson": lesson.name,
            "holds": self.holds,
            "texts": {
                name: plain(getattr(lesson, name))
                for name in ("question", "claim", "method", "popular", "next_steps")
            },
            "evidence": {
                name: plain(getattr(self.evidence, name)) for name in ("conclusion", "facts", "panels", "tables")
            },
            "sources": list(lesson.sources),
            "command": self.command,
            "data": self.data,
            "seeds": list(self.seeds),
            "effort": self.effort,
            "seconds": round(self.seconds, 1),
            "machine": self.machine,
            "versions": self.versions,
        }  # fmt: skip


def plain(value: Any) -> Any:
    """Return a value as JSON has it: texts by language, dataclasses by field.

    >>> plain(Text("depth", "深度"))
    {'en': 'depth', 'zh': '深度'}
    >>> plain(range(1, 4))
    [1, 2, 3]
    """
    if isinstance(value, Text):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(content) for content in value]
    return value.item() if hasattr(value, "item") else value
