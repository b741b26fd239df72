"""exercise: list the programming exercises, write a skeleton, check a learner's file."""

from __future__ import annotations

from pathlib import Path

from restune.core.errors import UserError
from restune.core.files import user_path, written_whole
from restune.core.language import resolve_language
from restune.lessons.exercises.catalogue import EXERCISES, Exercise, find_exercise
from restune.lessons.exercises.running import Grade, grade_file


def list_exercises() -> list[Exercise]:
    """Return the exercises in teaching order."""
    return list(EXERCISES.values())


def write_exercise(name: str, path: str | Path, lang: str | None = None) -> Path:
    """Write an exercise's skeleton to a new file.

    Raises UserError for an unknown exercise or an existing file.
    """
    skeleton, file = find_exercise(name).skeleton(resolve_language(lang)), user_path(path)
    if file.exists():
        raise UserError("the file exists", where=str(file), fix="choose another name; nothing is overwritten")
    with written_whole(file) as temporary:
        temporary.write_text(skeleton, encoding="utf-8")
    return file


def check_exercise(name: str, path: str | Path, lang: str | None = None) -> Grade:
    """Check a learner's file in a process of its own.

    Raises UserError for an unknown exercise or a missing file.
    """
    return grade_file(find_exercise(name), path, resolve_language(lang))
