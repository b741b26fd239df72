"""restune lesson."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from restune.cli import early
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
_LISTED = Text(
    "restune lesson NAME runs one; restune lesson exercise lists programming exercises",
    "restune lesson 名称：运行一课；restune lesson exercise：列出编程练习",
)
_SUMMARY = Text(
    "claim: {claim}\n\n{conclusion}\n{verdict}\n\npage: {page}\nto repeat: {command}",
    "论断：{claim}\n\n{conclusion}\n{verdict}\n\n页面：{page}\n重现：{command}",
)


@opt.takes(opt.on_data, opt.on_device, opt.on_all_verbs)
def lesson(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A lesson, or `exercise` for programming exercises; without a name: the list.", metavar="[NAME]"
        ),
    ] = None,
    exercise: Annotated[str | None, typer.Argument(help="The exercise's name.", metavar="[EXERCISE]")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images, as for `restune train`: digits (the default), mnist, cifar10, a folder of class folders, ...",
            metavar="DATA",
        ),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="About how long it may take, such as 90s or 5m: sets the number of epochs.")
    ] = None,
    effort: Annotated[
        float | None, typer.Option(help="A factor on the number of epochs instead; --time chooses one.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds that every network is trained with; 3 by default.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A run or model of yours, for lessons that examine one.", metavar="RUN")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page; by default runs/lesson-NAME-001 and so on.")
    ] = None,
    write: Annotated[str | None, typer.Option(help="Write the exercise's skeleton here.", metavar="FILE.py")] = None,
    check: Annotated[str | None, typer.Option(help="Check this file.", metavar="FILE.py")] = None,
    **options: Any,
) -> None:
    """Learn why residual networks work: lessons measured on this machine, and exercises checked with explanations.

    Example: restune lesson transfer --time 2m
    """
    passed = True
    with verb(options["quiet"]):
        lang = current_language()
        own = {"--write": write, "--check": check, "the exercise's name": exercise}
        settings = {"data": data, "time": time, "effort": effort, "seeds": seeds, "model": model, "out": out}
        if name == "exercise":
            _reject(settings, "restune lesson exercise", "it belongs to a lesson")
            passed = _exercise(exercise, write, check, lang, options["as_json"])
        else:
            _reject(own, f"restune lesson {name or ''}".strip(), "it belongs to `restune lesson exercise`")
            if name is None:
                _reject(settings, "restune lesson", "it belongs to a lesson: name one")
                _list(lang, options["as_json"])
            else:
                _run(name, settings, options["lang"], options)
    if not passed:
        raise typer.Exit(3)


def _reject(options: dict[str, Any], where: str, why: str) -> None:
    """Raise UserError for an option that has no effect here."""
    for option, value in options.items():
        if value is not None:
            shown = f"--{option}" if option.isalpha() else option
            raise UserError(f"{shown} has no effect here: {why}", where=where, fix="leave it out")


def _list(lang: str, as_json: bool) -> None:
    from restune.lessons.catalogue import LESSONS

    if as_json:
        print_json({"lessons": [{"name": name, "claim": claim.of(lang)} for name, claim in LESSONS.items()]})
        return
    for name, claim in LESSONS.items():
        print(f"{name:<16}{claim.of(lang)}")
    print(f"\n{_LISTED.of(lang)}")


def _run(name: str, settings: dict[str, Any], lang: str | None, options: dict[str, Any]) -> None:
    """Check the options, run a lesson, and print its summary."""
    from restune.lessons.catalogue import check_name

    check_name(name)
    reading = opt.data_options(options)
    early.check_data(settings["data"] or "digits", reading)
    from restune.lessons.page import verdict
    from restune.verbs.lesson import lesson as run

    used = {key: value for key, value in settings.items() if value is not None}
    device = None if options["device"] == opt.Device.auto else options["device"].value
    result = run(name, **used, lang=lang, device=device, data_options=reading)
    if options["as_json"]:
        print_json(result.to_dict())
        return
    print(_SUMMARY.of(
        result.language, claim=result.claim, conclusion=result.conclusion, verdict=verdict(result),
        page=result.page, command=result.command,
    ))  # fmt: skip


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
