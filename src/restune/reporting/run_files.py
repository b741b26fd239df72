"""Everything that a finished run has saved, read without its data; its report and model card are drawn from it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from restune.core.errors import UserError
from restune.data.kinds import KINDS
from restune.data.splits import read_left_out
from restune.evaluation.evaluation import Evaluation, load_evaluation
from restune.weights.bundle import BundleInfo, read_info


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """A finished run.

    Args:
        folder: of the run.
        result: the object of result.json.
        records, timings: one object per epoch, of metrics.jsonl and timings.jsonl.
        recipe: its settings as text.
        command: the object of run.json; empty for runs without one.
        comment: the first line of recipe.yaml.
        evaluations: the saved ones, by split: of other tasks than single-label classification of other classes.
        info: the header of its model; None where the model is gone or of a later version.
        left_out: items that were skipped, with the reason.
    """

    folder: Path
    result: dict[str, Any]
    records: list[dict[str, Any]]
    timings: list[dict[str, Any]]
    recipe: str
    command: dict[str, Any]
    comment: str
    evaluations: dict[str, Any] = field(repr=False)
    info: BundleInfo | None = field(repr=False)
    left_out: Mapping[str, str] = field(repr=False)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The recipe's settings by dotted key."""
        return flat(yaml.safe_load(self.recipe) or {})

    @cached_property
    def scores(self) -> dict[str, Evaluation]:
        """The evaluations of single-label classification."""
        return {split: one for split, one in self.evaluations.items() if isinstance(one, Evaluation)}

    @property
    def data(self) -> str:
        """The data's name as it was written, from the command or the comment in recipe.yaml."""
        if "data" in self.command:
            return str(self.command["data"])
        words = self.comment.split(" --recipe ")[0].split()
        return words[3] if len(words) > 3 else "DATA"

    @property
    def data_name(self) -> str:
        """The last part of the data's name: no folders of the machine that it was trained on."""
        return Path(self.data).name or self.data

    @property
    def held_out(self) -> str | None:
        """The split whose score counts: test, else validation; None without held-out items."""
        return next((split for split in ("test", "val") if split in self.scores), None)

    @property
    def task(self) -> str:
        """The task: single-label, or as the result names it."""
        return str(self.result.get("task", "single-label"))

    @property
    def seed(self) -> int | None:
        """The run's seed."""
        seed: int | None = self.settings.get("seed")
        return seed

    @property
    def reading(self) -> list[str]:
        """The words of a command line that read the data as the run did."""
        return self._reading(())

    @property
    def reading_for_evaluation(self) -> list[str]:
        """The same for verbs that do not leave out items."""
        return self._reading(("exclude", "decisions"))

    def _reading(self, without: tuple[str, ...]) -> list[str]:
        words: list[str] = []
        for name, value in self.command.get("options", {}).items():
            if name in without:
                continue
            if name == "header":
                words += [] if value else ["--no-header"]
            elif isinstance(value, str | int | float) and not isinstance(value, bool):
                words += [f"--{name.replace('_', '-')}", str(value)]
        return words

    @property
    def repeating(self) -> str:
        """The command that repeats the run."""
        words = ["restune", self.result["verb"], self.data, *self.reading, "--recipe", str(self.folder / "recipe.yaml")]
        return shlex.join(words)


def read_run(folder: Path) -> RunFiles:
    """Read a finished run's files. Raises UserError if there is no finished run, or a file of it is damaged."""
    result = _result(folder)
    try:
        return _read(folder, result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(
            f"a file of this run is damaged: {reason}", where=str(folder), fix="run the same command with another --out"
        ) from error


def _read(folder: Path, result: dict[str, Any]) -> RunFiles:
    if result["verb"] not in ("train", "finetune") or result["kind"] not in KINDS:
        raise ValueError("result.json names an unknown verb or kind of data")
    saved = {split: folder / "evaluation" / f"{split}.npz" for split in ("val", "test")}
    text = _text(folder / "recipe.yaml")
    comment, _, rest = text.partition("\n") if text.startswith("#") else ("", "", text)
    run = RunFiles(
        folder=folder,
        result=result,
        records=_lines(folder / "metrics.jsonl"),
        timings=_lines(folder / "timings.jsonl"),
        recipe=rest,
        command=_object(folder / "run.json"),
        comment=comment,
        evaluations={split: load_evaluation(path) for split, path in saved.items() if path.exists()},
        info=_info(folder / "model.safetensors"),
        left_out=read_left_out(folder / "split.csv"),
    )
    assert isinstance(run.settings, dict)  # read here, so that a damaged recipe is named
    return run


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key.

    >>> flat({"lr": 0.1, "augment": {"flip": True}})
    {'lr': 0.1, 'augment.flip': True}
    """
    found: dict[str, Any] = {}
    for key, content in value.items():
        if isinstance(content, Mapping) and content:
            found |= flat(content, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = content
    return found


def _result(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            "this folder does not contain a finished run", where=str(folder), fix="name the folder of a finished run"
        ) from error
    return content


def _object(path: Path) -> dict[str, Any]:
    content = json.loads(_text(path) or "{}")
    return content if isinstance(content, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _text(path).splitlines()]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _info(path: Path) -> BundleInfo | None:
    with suppress(UserError):
        return read_info(path)
    return None
