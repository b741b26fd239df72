"""run.json: the command of a run (verb, data, how the data is read), so that --resume needs no more than its folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from restune.core.errors import UserError
from restune.core.files import is_there, user_path, write_text
from restune.data.dataset import DataOptions

RUN_RECORD = "run.json"
_PATHS = ("root", "data_root", "exclude", "decisions")
_TABLES = ("exclude", "decisions")
"""Options that name a table of items, whose content is part of how the data is read."""
_HEADER = re.compile(r"# restune (train|finetune) (.+) --recipe THIS_FILE")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The command that began a run.

    Args:
        verb: ``train`` or ``finetune``.
        data: DATA as it was written; for data given from Python, its source.
        absolute: the full path of the data; None if it is not a file or folder.
        in_memory: whether the data was given from Python, so that its name does not reopen it.
        options: how the data is read.
        started: time of the first start, ISO 8601 in UTC.
        seeds: of several runs, in the folder that holds theirs; empty for a single run.
        tables: SHA-256 of the files named by ``--exclude`` and ``--decisions``, by option.
    """

    verb: str
    data: str
    absolute: str | None = None
    in_memory: bool = False
    options: DataOptions = DataOptions()  # noqa: RUF009  # a frozen value
    started: str = field(default_factory=_now)
    seeds: tuple[int, ...] = ()
    tables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, verb: str, data: Any, options: DataOptions | None, seeds: tuple[int, ...] = ()) -> RunRecord:
        """Record a command that is about to run."""
        options = options or DataOptions()
        full: dict[str, Any] = {
            name: _full(getattr(options, name)) for name in _PATHS if getattr(options, name) is not None
        }
        named = isinstance(data, str | Path)
        return cls(
            verb=verb,
            data=str(data) if named else str(getattr(data, "source", type(data).__name__)),
            absolute=str(user_path(data).absolute()) if named and is_there(user_path(data)) else None,
            in_memory=not named,
            options=replace(options, **full),
            seeds=seeds,
            tables={name: _sha256(file) for name in _TABLES if (file := full.get(name)) is not None},
        )

    def reopen(self, folder: Path) -> str:
        """Return the data's name or path: as recorded, wherever the command runs. Raises UserError if it needs Python.

        Args:
            folder: of the run, for the message.
        """
        if self.in_memory:
            raise UserError(
                f"the data of this run was given from Python ({self.data})",
                where=str(folder),
                fix="pass it again: restune.train(data, resume=True, out=...)",
            )
        return self.absolute if self.absolute is not None and is_there(Path(self.absolute)) else self.data

    def read_with(self, options: DataOptions | None) -> DataOptions:
        """Return how to read the data: as recorded, with the options that are named now."""
        if options is None:
            return self.options
        named = {key: value for key, value in vars(options).items() if value != getattr(DataOptions(), key)}
        return replace(self.options, **named)

    def with_options(self, options: DataOptions) -> RunRecord:
        """Return the record with other options and the present content of the tables that they name."""
        return replace(self, options=options, tables=type(self).of(self.verb, self.data, options).tables)

    def reject_changed_tables(self, before: RunRecord) -> None:
        """Raise UserError if ``--exclude`` or ``--decisions`` has another content than in the record of the run."""
        for name in _TABLES:
            if self.tables.get(name) != before.tables.get(name):
                raise UserError(
                    f"--{name} changed since this run began",
                    where=str(getattr(self.options, name) or getattr(before.options, name)),
                    fix="use the same file with the same content, or start another run with --out",
                )

    def has_its_table(self, name: str) -> bool:
        """Return whether the table that ``--exclude`` or ``--decisions`` named is there with the content of the run."""
        path = getattr(self.options, name)
        try:
            return path is not None and _sha256(path) == self.tables.get(name)
        except UserError:
            return False

    def write(self, folder: Path) -> None:
        """Write run.json into a run's folder."""
        options = {key: value for key, value in asdict(self.options).items() if value != getattr(DataOptions(), key)}
        content = {**asdict(self), "options": options, "schema_version": 1}
        write_text(folder / RUN_RECORD, json.dumps(content, default=str, indent=1) + "\n")


def read_run_record(folder: Path) -> RunRecord | None:
    """Read the record in a run's folder, or the first line of its recipe.yaml; None if there is neither.

    Raises UserError if it is damaged.
    """
    path = folder / RUN_RECORD
    if not path.exists():
        return _from_recipe(folder / "recipe.yaml")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema_version") != 1:
            raise ValueError("its schema version is not known; upgrade restune")
        options = content.pop("options")
        options.update({name: Path(options[name]) for name in _PATHS if options.get(name) is not None})
        if "left_out" in options:
            options["left_out"] = tuple(options["left_out"])
        return RunRecord(**{**content, "seeds": tuple(content["seeds"]), "options": DataOptions(**options)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"this record of a run cannot be read: {error}", where=str(path)) from error


def stored_recipe(out: str | Path | None, *, resume: bool) -> Path | None:
    """Return the recipe of the run to resume in `out`: settings that are not named stay as they were. None without."""
    path = None if out is None else user_path(out) / "recipe.yaml"
    return path if resume and path is not None and is_there(path) else None


def option_words(options: DataOptions) -> list[str]:
    """Return the words of a command line that read data in this way."""
    words = [] if options.header else ["--no-header"]
    for name, value in vars(options).items():
        if name not in ("header", "labelled", "missing_labels", "left_out") and value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def no_data(folder: Path | None, verb: str) -> UserError:
    """Return the error for a run whose data is neither named nor recorded."""
    return UserError(
        "DATA is missing" if folder is None else "DATA is missing, and this folder does not contain a run to resume",
        where=f"restune {verb}" if folder is None else str(folder),
        fix=f"restune {verb} DATA starts a run; restune {verb} --resume --out RUN continues one with its own data",
    )


def _from_recipe(path: Path) -> RunRecord | None:
    """Read verb and data from the comment in the first line of a recipe.yaml."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        found = _HEADER.match(file.readline())
    return RunRecord(verb=found[1], data=found[2], started="") if found else None


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"this file cannot be read: {error.strerror or error}", where=str(path), fix="check the path"
        ) from error


def _full(path: Path) -> Path:
    return user_path(path).absolute() if is_there(user_path(path)) else path
