"""Exercises: solutions pass, each typical mistake gets its own explanation, and hostile files end in a message."""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from restune.lessons.exercises.catalogue import EXERCISES
from restune.lessons.exercises.faults import FAULTS
from restune.lessons.exercises.grading import grade
from restune.lessons.exercises.running import grade_file

_specification = spec_from_file_location("solutions", Path(__file__).with_name("solutions.py"))
solutions = module_from_spec(_specification)
_specification.loader.exec_module(solutions)

ELSEWHERE = {"flood", "time", "ended", "not-written", "not-identity"}
"""Faults that other tests of this file provoke."""


def solution(name):
    return solutions.solution(name, EXERCISES[name].skeleton("en"))


@pytest.fixture
def graded(tmp_path, monkeypatch):
    """Grade a text in this process: fast, and enough where the file is friendly."""

    def run(name, text, language="en"):
        file = tmp_path / "learner.py"
        file.write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return list(grade(EXERCISES[name].load_checks(), file, language))

    return run


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(graded, name):
    findings = graded(name, solution(name))
    assert [finding.explanation for finding in findings if not finding.passed] == []
    assert len(findings) == 1 + len(EXERCISES[name].load_checks())


@pytest.mark.parametrize(("name", "fault", "changes"), solutions.MISTAKES)
def test_each_mistake_gets_its_explanation(graded, name, fault, changes):
    skeleton = EXERCISES[name].skeleton("en")
    text = solutions.changed(skeleton if name == "debug-listing" else solution(name), *changes)
    failed = [finding for finding in graded(name, text) if not finding.passed]
    assert failed
    assert failed[0].fault == fault, failed[0]
    assert "{" not in failed[0].explanation.replace("{'", "")


def test_every_explanation_is_provoked():
    assert {fault for _, fault, _ in solutions.MISTAKES} | ELSEWHERE == set(FAULTS)
    assert len({fault for _, fault, _ in solutions.MISTAKES}) >= 20


def test_a_scaled_shortcut_is_no_identity(graded):
    text = solutions.changed(solution("residual-block"), ("out + x", "out + 2 * x"))
    assert [finding.fault for finding in graded("residual-block", text)][-2:] == ["differs", "not-identity"]


def test_both_languages_have_the_same_fields():
    def fields(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for name, text in FAULTS.items():
        assert fields(text.en) == fields(text.zh), name
        assert re.search("[一-鿿]", text.zh), name


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", EXERCISES)
def test_the_skeleton_fails_with_a_kind_word(graded, name, language):
    failed = [finding for finding in graded(name, EXERCISES[name].skeleton(language), language) if not finding.passed]
    expected = "block-takes-no-stride" if name == "debug-listing" else "not-written"
    assert failed[0].fault == expected
    assert name in EXERCISES[name].skeleton(language)


HOSTILE = {
    "time": "while True: pass",
    "ended": "import os; print('last words', flush=True); os._exit(7)",
    "raised": "raise SystemExit(0)",
    "flood": "while True: print('x' * 1000)",
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_loops_and_crashes_end_in_a_message(tmp_path, fault):
    file = tmp_path / "learner.py"
    file.write_text(HOSTILE[fault])
    grade_of_file = grade_file(EXERCISES["residual-block"], file, "en", seconds=1 if fault == "time" else 60)
    assert not grade_of_file.passed
    (finding,) = grade_of_file.checks
    assert finding.fault == fault
    assert len(grade_of_file.printed) <= 20_000
    if fault == "ended":
        assert "7" in finding.explanation
        assert "last words" in finding.explanation


@pytest.mark.slow
def test_endless_memory_is_an_exception_of_the_learners(tmp_path):
    file = tmp_path / "learner.py"
    file.write_text("x = bytearray(1)\nwhile True:\n    x = bytearray(2 * len(x))\n")  # zeros take no real memory
    (finding,) = grade_file(EXERCISES["residual-block"], file, "en", seconds=60).checks
    assert finding.fault == "raised"
    assert "Line 3: MemoryError" in finding.explanation


@pytest.mark.slow
def test_a_loop_in_forward_names_the_check_that_hung(tmp_path):
    file = tmp_path / "learner.py"
    file.write_text(
        solution("residual-block").replace("        out = self.bn2", "        while True: pass\n        out = self.bn2")
    )
    findings = grade_file(EXERCISES["residual-block"], file, "zh", seconds=4).checks
    assert [(finding.name, finding.fault) for finding in findings] == [("imports", None), ("shape", "time")]


def restune(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "restune", *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_from_the_command_line(tmp_path):
    listed = json.loads(restune("lesson", "exercise", "--json", cwd=tmp_path).stdout)
    assert [exercise["name"] for exercise in listed["exercises"]] == list(EXERCISES)
    assert all(exercise["task"] for exercise in listed["exercises"])
    written = restune("lesson", "exercise", "projection", "--write", "block.py", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert "class ResidualBlock" in (tmp_path / "block.py").read_text()
    again = restune("lesson", "exercise", "projection", "--write", "block.py", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists" in again.stderr
    unfinished = restune("lesson", "exercise", "projection", "--check", "block.py", "--json", cwd=tmp_path)
    assert unfinished.returncode == 3
    record = json.loads(unfinished.stdout.splitlines()[-1])
    assert record["exercise"] == "projection"
    assert record["passed"] is False
    assert set(record["checks"][0]) >= {"name", "passed", "explanation"}
    (tmp_path / "block.py").write_text(solution("projection"))
    done = restune("lesson", "exercise", "projection", "--check", "block.py", "--lang", "zh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "通过" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["exercise", "residual-blok", "--write", "x.py"], "Did you mean 'residual-block'?"),
        (["exercise", "resnet", "--check", "nowhere.py"], "there is no such file"),
        (["exercise", "resnet"], "--write"),
        (["exercise", "resnet", "--write", "x.py", "--check", "x.py"], "--write"),
        (["exercise", "--check", "x.py"], "name"),
        (["exercise", "resnet", "--write", "x.py", "--lang", "fr"], "language"),
    ],
)
def test_misuse_is_one_message(tmp_path, arguments, expected):
    done = restune("lesson", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
