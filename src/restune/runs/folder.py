"""A run's folder: create it, agree on it between processes, store its recipe and compare it on resume."""

from __future__ import annotations

import json
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restune.core.errors import UserError, shorten
from restune.core.files import cannot_write, is_there, user_path, write_text
from restune.data.kinds import Kind
from restune.runs.custom import reject_missing
from restune.runs.lengthen import lengthened
from restune.runs.record import RUN_RECORD, RunRecord, option_words
from restune.runs.request import foreign_settings
from restune.training.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from restune.training.distributed import World

_RESOLVED = (
    *("model", "preprocess", "image_size", "precision", "memory_format", "compile", "device"),
    *("threads", "workers", "micro_batch", "epochs", "norm_batches"),
)
"""Keys that a request may leave open; recipe.yaml has their resolved values."""
_WRITTEN_FIRST = ("split.csv", "split.json", RUN_RECORD)
"""Files of a run that are written before recipe.yaml."""


def reject_used_folder(out: str | Path | None) -> None:
    """Raise UserError where `out` is a folder with files in it, which a new run does not overwrite."""
    if out is None:
        return
    folder = user_path(out)
    try:
        is_used = is_there(folder) and any(folder.iterdir())
    except OSError as error:
        raise cannot_write(folder, error) from error
    if is_used:
        raise UserError("this folder is not empty", where=str(folder), fix="name another with --out, or add --resume")


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a run that starts.

    Args:
        path: of the folder.
        continues: whether it contains a run to resume.
        was_empty: whether it contained nothing.
        created: the folders that were created for it, innermost first.
    """

    path: Path
    continues: bool
    was_empty: bool = False
    created: tuple[Path, ...] = ()


def run_folder(verb: str, out: str | Path | None, *, resume: bool) -> RunFolder:
    """Return the run's folder, created if it does not exist. Raises UserError if it contains something else."""
    if out is None:
        if resume:
            raise UserError("--resume needs the folder of the run", where="--resume", fix="name it with --out")
        number = 1
        while (Path("runs") / f"{verb}-{number:03d}").exists():
            number += 1
        folder = Path("runs") / f"{verb}-{number:03d}"
    else:
        folder = user_path(out)
    try:
        created = tuple(path for path in (folder, *folder.parents) if not path.exists())
        folder.mkdir(parents=True, exist_ok=True)
        there = any(folder.iterdir())
    except OSError as error:
        raise cannot_write(folder, error) from error
    if not resume:
        reject_used_folder(folder)
    continues = there and (folder / "recipe.yaml").exists()
    return RunFolder(path=folder, continues=continues, was_empty=not there, created=created)


@contextmanager
def removed_unless_begun(place: RunFolder) -> Iterator[None]:
    """Remove the folder if the start within this block fails: without a recipe there is nothing to resume."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            begun = (place.path / "recipe.yaml").exists() or any(place.path.glob("seed-*"))
            if place.was_empty and not begun:
                for name in _WRITTEN_FIRST:
                    (place.path / name).unlink(missing_ok=True)
                for folder in place.created:
                    folder.rmdir()  # fails, and ends this, where something else was put there
        raise


def agreed_folder(verb: str, out: str | Path | None, world: World, *, resume: bool) -> RunFolder:
    """Return the result of `run_folder` in the first process to all processes."""
    if world.size == 1:
        return run_folder(verb, out, resume=resume)
    if out is None:
        raise UserError("several processes need one folder", where="torchrun", fix="name it with --out")
    place = run_folder(verb, out, resume=resume) if world.is_main else RunFolder(path=user_path(out), continues=False)
    return replace(place, continues=world.sum([float(place.continues)])[0] > 0)


def write_recipe(folder: Path, recipe: Recipe, record: RunRecord, kind: Kind, comment: str = "") -> None:
    """Write ``recipe.yaml`` (this kind's settings, the command to repeat) and ``run.json`` (how data is read).

    A result of the run before it was lengthened is set aside. `comment` tells what the recipe does not hold.
    """
    record.write(folder)
    finished = folder / "result.json"
    if finished.exists():
        epochs = json.loads(finished.read_text(encoding="utf-8"))["epochs"]
        finished.replace(folder / f"result-{epochs}-epochs.json")
    command = shlex.join([record.data, *option_words(record.options)])
    settings = recipe.to_yaml(without=foreign_settings(kind))
    write_text(
        folder / "recipe.yaml",
        f"# restune {record.verb} {command} --recipe THIS_FILE repeats the run\n{comment}{settings}",
    )


def resumed_recipe(folder: Path, requested: Recipe, *, accept_changes: bool, batch_size_named: bool = True) -> Recipe:
    """Return the recipe of the resumed run, lengthened if the request has more epochs or time.

    Raises UserError if the request differs in anything else.
    """
    reject_missing(read_recipe(folder / "recipe.yaml"), list(requested.custom), str(folder))
    stored = lengthened(folder, read_recipe(folder / "recipe.yaml"), requested)
    requested = requested.changed({"lengthened": [length.model_dump() for length in stored.lengthened]})
    if not batch_size_named:  # it is lowered for few items
        requested = requested.changed({"batch_size": stored.batch_size})
    if requested.weights == "auto":
        requested = requested.changed({"weights": stored.weights})
    if requested.model is None and requested.weights is None:  # the network was chosen for the images
        from restune.runs.network_choice import SPEC_KEYS  # imports torch

        chosen = {key: stored.spec[key] for key in SPEC_KEYS if key in stored.spec}
        requested = requested.changed({"spec": {**chosen, **requested.spec}})
    if requested.augment.policy == "auto":
        requested = requested.changed({"augment.policy": stored.augment.policy})
    old, new = stored.model_dump(mode="json"), requested.model_dump(mode="json")
    differing = [key for key in new if new[key] != old[key] and not (key in _RESOLVED and new[key] in (None, "auto"))]
    if differing and not accept_changes:
        raise UserError(
            f"the recipe differs from the one this run began with: {_changes(differing, old, new)}",
            where=str(folder),
            fix="use the same options, or --accept-changes",
        )
    fixed = [key for key in differing if _is_fixed(key, old[key], new[key])]
    if fixed:
        raise UserError(
            f"this cannot change in a run that has begun: {_changes(fixed, old, new)}",
            where=str(folder),
            fix="leave it as it was, or start another run with --out",
        )
    kept = {key: old[key] for key in _RESOLVED if new[key] in (None, "auto")}
    if new["image_size"] not in (None, old["image_size"]):
        kept.pop("preprocess", None)
    return requested.changed(kept) if differing else stored


def _changes(keys: Iterable[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """List the settings that differ, by dotted key: ``optimizer.lr 0.05 -> 0.01``."""
    pairs = [pair for key in keys for pair in _differences(key, old[key], new[key])]
    return shorten(f"{name} {_value(before)} -> {_value(after)}" for name, before, after in pairs)


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        yield key, old, new
        return
    for name in dict.fromkeys((*old, *new)):
        before, after = old.get(name), new.get(name)
        if before != after:
            yield from _differences(f"{key}.{name}", before, after)


def _value(value: Any) -> str:
    """A value as recipe.yaml has it; a long one is cut."""
    return reprlib.repr(value) if isinstance(value, dict | list) else json.dumps(value, ensure_ascii=False).strip('"')


def _is_fixed(key: str, old: Any, new: Any) -> bool:
    """Return whether a change of this key makes a checkpoint's tensors unusable."""
    if key == "optimizer":
        return bool(old["name"] != new["name"])
    if key == "ema":
        return (old["decay"] is None) != (new["decay"] is None)
    return key in ("model", "spec", "freeze", "head", "weights") and not (key in _RESOLVED and new is None)
