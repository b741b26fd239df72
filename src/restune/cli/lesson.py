"""restune lesson."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restune.cli import options as opt
from restune.cli.run import print_json, verb
from restune.core.errors import UserError
from restune.core.language import Text, current_language

_PASSED = Text("passed: every check holds", "通过：所有检查都成立")
_NOT_YET = Text("not yet: {done} of {total} checks hold", "还没有通过：{total} 项检查中有 {done} 项成立")
_WRITTEN = Text(
    "wrote {file}; complete it, then: restune lesson exercise {name} --check {file}",
    "已写入 {file}；完成后运行：restune lesson exercise {name} --check {file}",
)


@opt.takes(opt.on_all_verbs)
def lesson(
    name: Annotated[str | None, typer.Argument(help="`exercise`: programming exercises.", metavar="[NAME]")] = None,
    exercise: Annotated[str | None, typer.Argument(help="The exercise's name.", metavar="[EXERCISE]")] = None,
    write: Annotated[str | None, typer.Option(help="Write the exercise's skeleton here.", metavar="FILE.py")] = None,
    check: Annotated[str | None, typer.Option(help="Check this file.", metavar="FILE.py")] = None,
    **options: Any,
) -> None:
    """Programming exercises on residual networks, checked with explanations.

    Example: restune lesson exercise residual-block --write block.py
    """
    with verb(options["quiet"]):
        if name != "exercise":
            raise UserError("name what to open", where="restune lesson", fix="restune lesson exercise")
        passed = _exercise(exercise, write, check, current_language(), options["as_json"])
    if not passed:
        raise typer.Exit(3)


def _exercise(name: str | None, write: str | None, check: str | None, lang: str, as_json: bool) -> bool:
    """List, write or check; return False where a check failed."""
    from restune.verbs.exercise import check_exercise, list_exercises, write_exercise

    where = "restune lesson exercise"
    if name is None:
        if write or check:
            raise UserError("the exercise's name is missing", where=where, fix="restune lesson exercise lists them")
        listed = [{"name": exercise.name, "task": exercise.task.of(lang)} for exercise in list_exercises()]
        if as_json:
            print_json({"exercises": listed})
        for row in [] if as_json else listed:
            print(f"{row['name']:<16}{row['task']}")
        return True
    if (write is None) == (check is None):
        raise UserError("use either --write FILE.py or --check FILE.py", where=f"{where} {name}")
    if write is not None:
        file = write_exercise(name, write, lang)
        if as_json:
            print_json({"exercise": name, "written": str(file)})
        else:
            print(_WRITTEN.of(lang, file=file, name=name))
        return True
    assert check is not None
    grade = check_exercise(name, check, lang)
    if as_json:
        print_json(grade.to_dict())
        return grade.passed
    for finding in grade.checks:
        print(f"{'✓' if finding.passed else '✗'} {finding.title}")
        if finding.explanation:
            print(f"    {finding.explanation}")
    done = sum(finding.passed for finding in grade.checks)
    print(_PASSED.of(lang) if grade.passed else _NOT_YET.of(lang, done=done, total=grade.total))
    return grade.passed
