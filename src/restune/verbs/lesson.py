"""lesson: list the lessons, or run one and write its page."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from restune.core.console import duration, note
from restune.core.errors import UserError
from restune.core.files import user_path, write_text
from restune.core.interrupt import Interrupted, Terminated
from restune.core.language import Text, resolve_language
from restune.core.machine import describe_machine
from restune.data.dataset import DataOptions, Dataset
from restune.data.kinds import kind_of
from restune.data.sources import open_dataset
from restune.lessons.catalogue import LESSONS, find_lesson
from restune.lessons.effort import fitting_effort
from restune.lessons.lesson import Lesson, Settings
from restune.lessons.page import lesson_page
from restune.lessons.result import LessonResult
from restune.runs.folder import RunFolder, removed_unless_begun, run_folder
from restune.runs.record import option_words
from restune.runs.versions import versions
from restune.training.recipe import parse_duration


def list_lessons() -> dict[str, Text]:
    """Return each lesson's name and claim in a sentence, in teaching order."""
    return dict(LESSONS)


def lesson(
    name: str,
    *,
    data: Any = "digits",
    time: str | float | None = None,
    effort: float | None = None,
    seeds: int = 3,
    model: str | Path | None = None,
    out: str | Path | None = None,
    lang: str | None = None,
    device: str | None = None,
    data_options: DataOptions | None = None,
) -> LessonResult:
    """Run a lesson: train its networks, measure, and write ``lesson.html`` and ``lesson.json``.

    Args:
        name: `restune lesson` lists them.
        data: labelled images, as for `restune.train`; by default scikit-learn's digits.
        time: about how long it may take, such as ``"5m"``; the number of epochs is chosen for it.
        effort: a factor on the number of epochs instead; by default 1.
        seeds: number of seeds that every network is trained with.
        model: a run's folder or a bundle, for the lessons that examine a network of one's own.
        out: an empty or new folder; by default ``runs/lesson-NAME-001`` and so on.
        lang: ``en`` or ``zh``; by default ``RESTUNE_LANG``, else English.
        device: ``cpu`` or ``cuda``.
        data_options: how to read the data.

    Raises UserError.

    >>> result = restune.lesson("degradation", data=photos, effort=0.02, seeds=1, out=folder / "lesson")
    >>> result.page.name, len(result.facts["train_loss"])
    ('lesson.html', 8)
    """
    language, found = resolve_language(lang), find_lesson(name)
    budget = _checked(found, seeds, effort, time, model)
    started = perf_counter()
    place = _new_folder(name, out)
    with _interrupted_plainly(), removed_unless_begun(place):
        dataset = open_dataset(data, data_options)
        if model is None:
            _reject_other_kinds(dataset)
        if budget is not None:
            effort = fitting_effort(budget, found, dataset, seeds, device)
        settings = Settings(
            data=dataset,
            seeds=tuple(range(seeds)),
            effort=1.0 if effort is None else effort,
            device=device,
            model=None if model is None else user_path(model),
        )
        usual = found.seconds * settings.effort * seeds / _USUAL_SEEDS
        note(f"lesson {name}: about {duration(usual if budget is None else budget)}")
        result = LessonResult(
            out=place.path,
            lesson=found,
            evidence=found.experiment(settings),
            language=language,
            command=_command(name, data, data_options, settings, lang),
            data=dataset.source,
            seeds=settings.seeds,
            effort=settings.effort,
            seconds=perf_counter() - started,
            machine=describe_machine(),
            versions=versions(),
        )
        record = json.dumps(result.record(), ensure_ascii=False, indent=1)
        write_text(result.out / "lesson.json", record + "\n")
        write_text(result.page, lesson_page(result))
    return result


_USUAL_SEEDS = 3


def _checked(
    found: Lesson, seeds: int, effort: float | None, time: str | float | None, model: str | Path | None
) -> float | None:
    """Return the time budget, seconds. Raises UserError for settings that the lesson cannot take."""
    if not 1 <= seeds <= 100:
        raise UserError(f"the number of seeds must be from 1 to 100, not {seeds}", where="--seeds", fix="3 is usual")
    if effort is not None and not 0 < effort <= 1000:
        raise UserError(f"the effort must be above 0, up to 1000, not {effort:g}", where="--effort", fix="1 is usual")
    if effort is not None and time is not None:
        raise UserError("--time chooses the effort", where="--effort", fix="use one of the two")
    if model is not None and not found.takes_model:
        taking = [name for name in LESSONS if name != found.name and find_lesson(name).takes_model]
        hint = f"lessons that examine a model of yours: {', '.join(taking)}" if taking else "leave it out"
        raise UserError(f"the lesson {found.name} trains its own networks", where="--model", fix=hint)
    return None if time is None else parse_duration(time)


def _reject_other_kinds(dataset: Dataset) -> None:
    """Raise UserError for other data than images: the lessons' own networks are small image networks."""
    if dataset.kind != "image":
        raise UserError(
            f"lessons take images, the data is {kind_of(dataset.kind).noun}",
            where=dataset.source,
            fix="name a folder of class folders with images, or leave --data out for the digits",
        )


def _new_folder(name: str, out: str | Path | None) -> RunFolder:
    """Return an empty folder, created if it does not exist. Raises UserError for one with files in it."""
    if out is not None and user_path(out).is_dir() and any(user_path(out).iterdir()):
        raise UserError("this folder is not empty", where=str(out), fix="name another with --out")
    return run_folder(f"lesson-{name}", out, resume=False)


def _command(name: str, data: Any, options: DataOptions | None, settings: Settings, lang: str | None) -> str:
    """Return the command that repeats the lesson with the same epochs, whatever the time it then takes."""
    source = str(data) if isinstance(data, str | Path) else settings.data.source
    words = ["restune", "lesson", name, "--data", source, *option_words(options or DataOptions())]
    words += ["--seeds", str(len(settings.seeds)), "--effort", f"{settings.effort:g}"]
    for option, value in (("--model", settings.model), ("--device", settings.device), ("--lang", lang)):
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)


@contextmanager
def _interrupted_plainly() -> Iterator[None]:
    """Turn a training's `Interrupted`, which promises that it can be resumed, into a plain interruption."""
    try:
        yield
    except Interrupted as error:
        raise (Terminated if error.number == signal.SIGTERM else KeyboardInterrupt) from None
