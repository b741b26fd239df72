"""A run's folder: create it, agree on it between processes, store its recipe and compare it on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from restune.core.errors import UserError, shorten
from restune.core.files import cannot_write, user_path, write_text
from restune.data.dataset import Dataset
from restune.runs.network_choice import SPEC_KEYS
from restune.training.distributed import World
from restune.training.recipe import Recipe, read_recipe

_RESOLVED = (
    *("model", "preprocess", "image_size", "precision", "memory_format", "compile", "device"),
    *("threads", "workers", "micro_batch", "epochs", "norm_batches"),
)
"""Keys that a request may leave open; recipe.yaml has their resolved values."""


def run_folder(verb: str, out: str | Path | None, *, resume: bool) -> tuple[Path, bool]:
    """Return the run's folder, created if it does not exist, and whether it contains a run to resume."""
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
        folder.mkdir(parents=True, exist_ok=True)
        there = any(folder.iterdir())
    except OSError as error:
        raise cannot_write(folder, error) from error
    if there and not resume:
        raise UserError("this folder is not empty", where=str(folder), fix="name another with --out, or add --resume")
    return folder, there and (folder / "recipe.yaml").exists()


def agreed_folder(verb: str, out: str | Path | None, world: World, *, resume: bool) -> tuple[Path, bool]:
    """Return the result of `run_folder` in the first process to all processes."""
    if world.size == 1:
        return run_folder(verb, out, resume=resume)
    if out is None:
        raise UserError("several processes need one folder", where="torchrun", fix="name it with --out")
    continues = world.is_main and run_folder(verb, out, resume=resume)[1]
    return user_path(out), world.sum([float(continues)])[0] > 0


def write_recipe(folder: Path, recipe: Recipe, verb: str, data: str | Path | Dataset) -> None:
    """Write ``recipe.yaml``, with the command that repeats the run."""
    name = data.source if isinstance(data, Dataset) else data
    write_text(
        folder / "recipe.yaml", f"# restune {verb} {name} --recipe THIS_FILE repeats the run\n{recipe.to_yaml()}"
    )


def resumed_recipe(folder: Path, requested: Recipe, *, accept_changes: bool, batch_size_named: bool = True) -> Recipe:
    """Return the recipe of the resumed run. Raises UserError if the request differs from it."""
    stored = read_recipe(folder / "recipe.yaml")
    if not batch_size_named:  # it is lowered for few items
        requested = requested.changed({"batch_size": stored.batch_size})
    if requested.model is None and requested.weights is None:  # the network was chosen for the images
        chosen = {key: stored.spec[key] for key in SPEC_KEYS if key in stored.spec}
        requested = requested.changed({"spec": {**chosen, **requested.spec}})
    if requested.augment.policy == "auto":
        requested = requested.changed({"augment.policy": stored.augment.policy})
    old, new = stored.model_dump(mode="json"), requested.model_dump(mode="json")
    differing = [key for key in new if new[key] != old[key] and not (key in _RESOLVED and new[key] in (None, "auto"))]
    if differing and not accept_changes:
        raise UserError(
            "the recipe differs from the one this run began with: "
            + shorten(f"{key} was {old[key]!r}, is {new[key]!r}" for key in differing),
            where=str(folder),
            fix="use the same options, or --accept-changes",
        )
    fixed = [key for key in differing if _is_fixed(key, old[key], new[key])]
    if fixed:
        raise UserError(
            "this cannot change in a run that has begun: "
            + shorten(f"{key} was {old[key]!r}, is {new[key]!r}" for key in fixed),
            where=str(folder),
            fix="leave it as it was, or start another run with --out",
        )
    kept = {key: old[key] for key in _RESOLVED if new[key] in (None, "auto")}
    if new["image_size"] not in (None, old["image_size"]):
        kept.pop("preprocess", None)
    return requested.changed(kept) if differing else stored


def _is_fixed(key: str, old: Any, new: Any) -> bool:
    """Return whether a change of this key makes a checkpoint's tensors unusable."""
    if key == "optimizer":
        return bool(old["name"] != new["name"])
    if key == "ema":
        return (old["decay"] is None) != (new["decay"] is None)
    return key in ("model", "spec", "freeze", "head", "weights") and not (key in _RESOLVED and new is None)
