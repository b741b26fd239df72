"""Grade a learner's module: run checks in order and turn each failure into an explanation in both languages."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from restune.core.language import Text
from restune.lessons.exercises.faults import FAULTS


class FaultError(Exception):
    """A mistake in the learner's code.

    Args:
        fault: its name in `FAULTS`, where the explanation stands.
        values: fields of the explanation.
    """

    def __init__(self, fault: str, /, **values: object) -> None:
        super().__init__(fault)
        self.name, self.values = fault, values

    def explain(self, language: str) -> str:
        """Return the explanation."""
        return FAULTS[self.name].of(language, **self.values) if self.values else FAULTS[self.name].of(language)


@dataclass(frozen=True)
class Check:
    """One question to the learner's module.

    Args:
        name: what is asked, as a short name.
        title: the same as a sentence.
        run: asks; raises FaultError, or whatever the learner's code raises.
        is_required: later checks need this one to pass.
        diagnoses: patterns of exception messages and the faults that they reveal.
    """

    name: str
    title: Text
    run: Callable[[ModuleType], None]
    is_required: bool = True
    diagnoses: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Finding:
    """A check's result; `fault` and `explanation` are None and empty where it passed."""

    name: str
    title: str
    passed: bool
    fault: str | None = None
    explanation: str = ""


COMMON_DIAGNOSES = (
    (r"NotImplementedError", "not-written"),
    (r"before Module.__init__\(\) call", "no-super-init"),
    (r"modified by an inplace operation", "inplace-on-needed"),
)


def load_module(path: Path) -> ModuleType:
    """Import the learner's file under a name of its own; its folder is on the import path."""
    sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location("exercise", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["exercise"] = module
    specification.loader.exec_module(module)
    return module


def grade(checks: tuple[Check, ...], path: Path, language: str) -> Iterator[Finding]:
    """Import the learner's file and run the checks; end after a failed check that the later ones need."""
    title = IMPORTS.of(language)
    try:
        module = load_module(path)
    except BaseException as error:
        yield _finding("imports", title, error, path, language, ())
        return
    yield Finding("imports", title, True)
    for check in checks:
        title = check.title.of(language)
        try:
            check.run(module)
        except BaseException as error:
            yield _finding(check.name, title, error, path, language, check.diagnoses)
            if check.is_required:
                return
        else:
            yield Finding(check.name, title, True)


IMPORTS = Text("the file can be imported", "文件可以导入")


def named(module: ModuleType, name: str) -> Any:
    """Return the learner's class or function of this name. Raises FaultError if there is none."""
    if not hasattr(module, name):
        raise FaultError("missing-name", name=name)
    return getattr(module, name)


def _finding(
    name: str, title: str, error: BaseException, path: Path, language: str, diagnoses: tuple[tuple[str, str], ...]
) -> Finding:
    """Return a failed check's finding: the fault itself, or what the exception reveals."""
    if isinstance(error, FaultError):
        return Finding(name, title, False, error.name, error.explain(language))
    message = f"{type(error).__name__}: {error}"
    where = _line_of(error, path)
    for pattern, fault in (*diagnoses, *COMMON_DIAGNOSES):
        if re.search(pattern, message):
            explanation = FAULTS[fault].of(language)
            return Finding(name, title, False, fault, f"{explanation} {RAISED.of(language, where=where, what=message)}")
    fault = "syntax" if isinstance(error, SyntaxError) else "raised"
    return Finding(name, title, False, fault, FAULTS[fault].of(language, where=where, what=message))


RAISED = Text("(Line {where}: {what})", "（第 {where} 行：{what}）")


def _line_of(error: BaseException, path: Path) -> int:
    """Return the last line of the learner's file that the exception passed through; 0 if none."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno or 0 for frame in frames if Path(frame.filename) == path]
    return lines[-1] if lines else 0
